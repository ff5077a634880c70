//! The URL by which users name a volume: a server's URL with the volume's name as its path.

use crate::failure::Failure;
use ringfs_base::VolumeName;
use ringfs_link::Endpoint;

/// A metadata server, and the volume that the URL names there, if it names one.
#[derive(Clone, Debug)]
pub struct MetaUrl {
    /// The server, with the credentials that the URL itself has.
    pub endpoint: Endpoint,
    /// The volume.
    pub volume: Option<VolumeName>,
    /// The URL had a password, which everybody can read in the list of processes.
    pub password_in_url: bool,
}

/// A URL that names a volume.
#[derive(Clone, Debug)]
pub struct VolumeUrl {
    /// The metadata server.
    pub endpoint: Endpoint,
    /// The volume.
    pub volume: VolumeName,
}

impl MetaUrl {
    /// Reads `redis://[user[:password]@]host[:port][/VOLUME][?db=N]`, the same with `rediss://`, or
    /// `unix:///path/to.sock[?volume=VOLUME][&db=N]`. The error quotes nothing of the URL but the
    /// volume's name, because a password may stand anywhere in a mistyped one.
    pub fn parse(url: &str) -> Result<MetaUrl, Failure> {
        let (rest, query) = match url.split_once('?') {
            Some((rest, query)) => (rest, query),
            None => (url, ""),
        };
        let mut volume = None;
        let mut server = rest.to_owned();
        if !url.starts_with("unix://")
            && let Some((scheme, after)) = rest.split_once("://")
            && let Some((authority, path)) = after.split_once('/')
        {
            // Behind an @ the text would be what follows a slash in an unescaped password.
            if path.contains('@') {
                return Err(Failure::usage(
                    "a slash in the user name or password of a Redis URL must be written %2F",
                ));
            }
            let path = path.trim_end_matches('/');
            if path.contains('/') {
                return Err(Failure::usage(
                    "the path of a volume's URL is one name, as in redis://host:6379/demo",
                ));
            }
            if !path.is_empty() {
                volume = Some(path);
            }
            server = format!("{scheme}://{authority}");
        }
        let mut kept = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.strip_prefix("volume=") {
                Some(name) if volume.is_none() => volume = Some(name),
                Some(_) => return Err(Failure::usage("the URL names two volumes; name one")),
                None => kept.push(pair),
            }
        }
        if !kept.is_empty() {
            server = format!("{server}?{}", kept.join("&"));
        }
        let endpoint = Endpoint::parse(&server)?;
        let volume = volume
            .map(|name| VolumeName::new(name).map_err(|e| Failure::usage(e.to_string())))
            .transpose()?;
        Ok(MetaUrl { password_in_url: endpoint.has_password(), endpoint, volume })
    }

    /// The volume must be named.
    pub fn require_volume(self) -> Result<VolumeUrl, Failure> {
        match self.volume {
            Some(volume) => Ok(VolumeUrl { endpoint: self.endpoint, volume }),
            None => Err(Failure::usage(
                "the URL names no volume; put its name behind the address, as in \
                 redis://host:6379/demo (`ringfs volumes URL` lists them)",
            )),
        }
    }
}

/// The URL without a password by which the same volume is reached again.
pub fn shown(endpoint: &Endpoint, volume: &VolumeName) -> String {
    let url = endpoint.to_url_without_password();
    let (server, query) = match url.split_once('?') {
        Some((server, query)) => (server.to_owned(), Some(query)),
        None => (url.clone(), None),
    };
    if endpoint.socket_path().is_some() {
        return match query {
            Some(query) => format!("{server}?volume={volume}&{query}"),
            None => format!("{server}?volume={volume}"),
        };
    }
    // `Endpoint` writes the database as the path; there the volume's name belongs.
    let after_scheme = server.find("://").map_or(0, |at| at + 3);
    let (server, db) = match server[after_scheme..].find('/') {
        Some(at) => {
            let (server, db) = server.split_at(after_scheme + at);
            (server.to_owned(), Some(db[1..].to_owned()))
        }
        None => (server, None),
    };
    let parameters: Vec<String> =
        db.map(|db| format!("db={db}")).into_iter().chain(query.map(str::to_owned)).collect();
    match parameters.is_empty() {
        true => format!("{server}/{volume}"),
        false => format!("{server}/{volume}?{}", parameters.join("&")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_the_volume_and_the_database_a_parameter() {
        let url = MetaUrl::parse("redis://user:pw@host:7000/demo?db=3").unwrap();
        assert_eq!(url.volume.as_ref().unwrap().as_str(), "demo");
        assert!(url.password_in_url);
        assert_eq!(url.endpoint.to_url_without_password(), "redis://user@host:7000/3");
        assert_eq!(shown(&url.endpoint, &url.volume.unwrap()), "redis://user@host:7000/demo?db=3");
    }

    #[test]
    fn shown_urls_lead_back() {
        for text in [
            "redis://host:6379/demo",
            "redis://[::1]:7000/demo?db=2",
            "rediss://u@host:6379/demo?db=1&cacert=/etc/ca.pem",
            "unix:///run/r.sock?volume=demo",
            "unix:///run/r.sock?volume=demo&db=4",
        ] {
            let url = MetaUrl::parse(text).unwrap().require_volume().unwrap();
            assert_eq!(shown(&url.endpoint, &url.volume), text);
        }
    }

    #[test]
    fn no_volume_is_fine_until_one_is_needed() {
        for text in ["redis://host", "redis://host:1/", "unix:///run/r.sock"] {
            let url = MetaUrl::parse(text).unwrap();
            assert!(url.volume.is_none());
            assert!(url.require_volume().is_err());
        }
    }

    #[test]
    fn mistyped_urls_give_no_password_away() {
        for text in [
            "redis:/u:hunter2@h/demo",
            "http://u:hunter2@h/demo",
            "redis://u:hunter2/x@h/demo",
            "redis://u:hunter2@h:99999/demo",
            "redis://u:hunter2@h/a/b",
            "redis://u:hunter2%zz@h/a",
            "redis://u:hunter2@h/demo?volume=other",
            "u:hunter2@h",
        ] {
            let error = MetaUrl::parse(text).unwrap_err();
            assert!(!error.message.contains("hunter2"), "{text}: {error}");
        }
    }
}
