//! Where a server is, and how we prove who we are.

use crate::error::ServerName;
use crate::secret::Secret;
use crate::tls::TlsSetup;
use std::fmt;
use std::path::{Path, PathBuf};

const DEFAULT_PORT: u16 = 6379;
/// The environment variables that fill in what a URL lacks.
const USER_VARIABLE: &str = "RINGFS_REDIS_USER";
const PASSWORD_VARIABLE: &str = "RINGFS_REDIS_PASSWORD";
const PASSWORD_FILE_VARIABLE: &str = "RINGFS_REDIS_PASSWORD_FILE";

/// Why a URL or its credentials cannot be used: a whole sentence. It quotes nothing of the URL,
/// because a mistyped URL may hold the password anywhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EndpointError(String);

#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// Files for TLS, in PEM form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate, for servers that ask for one.
    pub cert: Option<PathBuf>,
    /// The private key of `cert`.
    pub key: Option<PathBuf>,
}

/// One Redis server: its address, TLS, database and credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    address: Address,
    name: ServerName,
    user: Option<String>,
    password: Option<Secret>,
    db: u32,
    tls: Option<TlsSetup>,
}

impl Endpoint {
    /// Reads `redis://[user[:password]@]host[:port][/db]`, the same with `rediss://` for TLS (and
    /// `?cacert=`, `?cert=`, `?key=` with paths of PEM files), or `unix:///path[?db=n]`.
    /// User names and passwords may be percent-encoded.
    pub fn parse(url: &str) -> Result<Endpoint, EndpointError> {
        let fail = |text: &str| Err(EndpointError(text.to_owned()));
        let Some((scheme, rest)) = url.split_once("://") else {
            return fail("A Redis URL begins with redis://, rediss:// or unix://.");
        };
        let (tls, unix) = match scheme {
            "redis" => (false, false),
            "rediss" => (true, false),
            "unix" => (false, true),
            _ => return fail("A Redis URL begins with redis://, rediss:// or unix://."),
        };
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, query),
            None => (rest, ""),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (credentials, host) = match authority.rsplit_once('@') {
            Some((credentials, host)) => (Some(credentials), host),
            None => (None, authority),
        };
        let (mut user, mut password) = (None, None);
        if let Some(credentials) = credentials {
            let (name, secret) = match credentials.split_once(':') {
                Some((name, secret)) => (name, Some(secret)),
                None => (credentials, None),
            };
            if !name.is_empty() {
                user = Some(percent_decode(name)?);
            }
            if let Some(secret) = secret.filter(|secret| !secret.is_empty()) {
                password = Some(Secret::new(percent_decode(secret)?));
            }
        }
        let mut db = 0;
        let address = if unix {
            if !host.is_empty() || path.len() < 2 {
                return fail("A unix:// URL needs an absolute path, as in unix:///run/redis.sock.");
            }
            Address::Unix(PathBuf::from(percent_decode(path)?))
        } else {
            if path.len() > 1 {
                db = parse_db(&path[1..])?;
            }
            let (host, port) = parse_host(host)?;
            Address::Tcp { host, port }
        };
        let mut files = TlsFiles::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return fail("A parameter of a Redis URL has the form name=value.");
            };
            match key {
                "db" => db = parse_db(value)?,
                "cacert" | "cert" | "key" if !tls => {
                    return fail("The parameters cacert, cert and key need a rediss:// URL.");
                }
                "cacert" => files.ca = Some(percent_decode(value)?.into()),
                "cert" => files.cert = Some(percent_decode(value)?.into()),
                "key" => files.key = Some(percent_decode(value)?.into()),
                _ => {
                    return fail("A Redis URL takes the parameters db, cacert, cert and key only.");
                }
            }
        }
        let name = ServerName::new(&show(&address));
        Ok(Endpoint { address, name, user, password, db, tls: tls.then(|| TlsSetup::new(files)) })
    }

    /// The same server with these credentials.
    #[must_use]
    pub fn with_credentials(mut self, user: Option<String>, password: Option<Secret>) -> Endpoint {
        self.user = user;
        self.password = password;
        self
    }

    /// Fills in what the URL lacks from `RINGFS_REDIS_USER` and `RINGFS_REDIS_PASSWORD`, or the
    /// first line of the file that `RINGFS_REDIS_PASSWORD_FILE` names. `env` looks a variable up.
    pub fn resolve_credentials(
        mut self,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Endpoint, EndpointError> {
        let lookup = |name| env(name).filter(|value| !value.is_empty());
        if self.password.is_some() {
            return Ok(self);
        }
        if self.user.is_none() {
            self.user = lookup(USER_VARIABLE);
        }
        if let Some(password) = lookup(PASSWORD_VARIABLE) {
            self.password = Some(Secret::new(password));
        } else if let Some(file) = lookup(PASSWORD_FILE_VARIABLE) {
            let text = std::fs::read_to_string(&file).map_err(|e| {
                EndpointError(format!("The password file {file} named by {PASSWORD_FILE_VARIABLE} cannot be read: {e}."))
            })?;
            let line = text.lines().next().unwrap_or("");
            if line.is_empty() {
                return Err(EndpointError(format!(
                    "The password file {file} has an empty first line."
                )));
            }
            self.password = Some(Secret::new(line));
        }
        Ok(self)
    }

    /// The same server, spoken to over TLS with these files.
    #[must_use]
    pub fn with_tls(mut self, files: TlsFiles) -> Endpoint {
        self.tls = Some(TlsSetup::new(files));
        self
    }

    /// A URL that [`Self::parse`] reads back to the same server, without the password.
    pub fn to_url_without_password(&self) -> String {
        let user = self
            .user
            .as_ref()
            .map_or(String::new(), |user| format!("{}@", percent_encode(user, "")));
        let mut query: Vec<String> = Vec::new();
        let mut url = match &self.address {
            Address::Unix(path) => {
                if self.db != 0 {
                    query.push(format!("db={}", self.db));
                }
                format!("unix://{user}{}", percent_encode(&path.to_string_lossy(), "/"))
            }
            Address::Tcp { .. } => {
                let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
                let db = if self.db == 0 { String::new() } else { format!("/{}", self.db) };
                format!("{scheme}://{user}{}{db}", show(&self.address))
            }
        };
        if let Some(tls) = self.tls.as_ref().map(TlsSetup::files) {
            let mut file = |name: &str, path: &Option<PathBuf>| {
                if let Some(path) = path {
                    query.push(format!("{name}={}", percent_encode(&path.to_string_lossy(), "/")));
                }
            };
            file("cacert", &tls.ca);
            file("cert", &tls.cert);
            file("key", &tls.key);
        }
        if !query.is_empty() {
            url.push('?');
            url.push_str(&query.join("&"));
        }
        url
    }

    /// The address, for messages.
    pub fn name(&self) -> &ServerName {
        &self.name
    }

    /// The host, `None` for a Unix socket.
    pub fn host(&self) -> Option<&str> {
        match &self.address {
            Address::Tcp { host, .. } => Some(host),
            Address::Unix(_) => None,
        }
    }

    /// The path of the Unix socket, if it is one.
    pub fn socket_path(&self) -> Option<&Path> {
        match &self.address {
            Address::Tcp { .. } => None,
            Address::Unix(path) => Some(path),
        }
    }

    /// Whether we speak TLS with it.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The user name, if any.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Whether there is a password.
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }
    pub(crate) fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }
    pub(crate) fn tls(&self) -> Option<&TlsSetup> {
        self.tls.as_ref()
    }
    pub(crate) fn db(&self) -> u32 {
        self.db
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.name)
    }
}

fn show(address: &Address) -> String {
    match address {
        Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
        Address::Tcp { host, port } => format!("{host}:{port}"),
        Address::Unix(path) => path.display().to_string(),
    }
}

fn parse_host(text: &str) -> Result<(String, u16), EndpointError> {
    let fail = |text: &str| Err(EndpointError(text.to_owned()));
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((host, after)) = rest.split_once(']') else {
            return fail("An IPv6 address in a Redis URL needs its closing bracket.");
        };
        match after.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if after.is_empty() => (host, None),
            None => return fail("Only a port may follow the address in a Redis URL."),
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    if host.is_empty() {
        return fail("A Redis URL needs a host name or an address.");
    }
    let bracketed = text.starts_with('[');
    let allowed =
        |c: char| c.is_ascii_alphanumeric() || "-._".contains(c) || (bracketed && ":%".contains(c));
    if !host.chars().all(allowed) {
        return fail("The host name in a Redis URL has a character that no host name has.");
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => match port.parse::<u16>() {
            Ok(port) if port > 0 => port,
            _ => return fail("The port in a Redis URL is a number from 1 to 65535."),
        },
    };
    Ok((host.to_owned(), port))
}

fn parse_db(text: &str) -> Result<u32, EndpointError> {
    text.parse().ok().filter(|&db: &u32| db <= 65_535).ok_or_else(|| {
        EndpointError(
            "The database in a Redis URL is a small number, as in redis://host:6379/2.".to_owned(),
        )
    })
}

fn percent_decode(text: &str) -> Result<String, EndpointError> {
    let bad = || {
        EndpointError(
            "A percent sign in a Redis URL needs two hexadecimal digits after it.".to_owned(),
        )
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            let [high, low, after @ ..] = after else { return Err(bad()) };
            let digit = |c: u8| char::from(c).to_digit(16).map(|digit| digit as u8);
            bytes.push(digit(*high).ok_or_else(bad)? << 4 | digit(*low).ok_or_else(bad)?);
            rest = after;
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    String::from_utf8(bytes)
        .map_err(|_| EndpointError("A Redis URL must be UTF-8 when decoded.".to_owned()))
}

fn percent_encode(text: &str, keep: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || "-._~".contains(c) || keep.contains(c) {
            out.push(c);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Endpoint {
        Endpoint::parse(url).unwrap()
    }

    #[test]
    fn all_forms() {
        let e = parse("redis://host");
        assert_eq!(
            (e.to_string(), e.db(), e.user(), e.is_tls()),
            ("host:6379".into(), 0, None, false)
        );
        let e = parse("redis://user:p%40ss@10.0.0.1:7000/3");
        assert_eq!((e.to_string(), e.db(), e.user()), ("10.0.0.1:7000".into(), 3, Some("user")));
        assert_eq!(e.password(), Some(&Secret::new("p@ss")));
        let e = parse("redis://:pw@[::1]:7000");
        assert_eq!((e.to_string(), e.host(), e.user()), ("[::1]:7000".into(), Some("::1"), None));
        let e = parse("unix:///run/r.sock?db=2");
        assert_eq!((e.to_string(), e.db()), ("/run/r.sock".into(), 2));
        let e = parse("rediss://h:1?cacert=/a%20b&cert=/c&key=/k");
        assert_eq!(e.tls.as_ref().and_then(|t| t.files().ca.clone()), Some("/a b".into()));
    }

    #[test]
    fn urls_survive_without_the_password() {
        for url in [
            "redis://host:6379",
            "redis://us%3Aer@[::1]:7000/3",
            "unix:///run/r.sock?db=2",
            "unix://me@/run/r.sock",
            "rediss://h:1?cacert=/a%20b&cert=/c&key=/k",
        ] {
            assert_eq!(parse(url).to_url_without_password(), url);
        }
        assert_eq!(parse("redis://u:secret@h").to_url_without_password(), "redis://u@h:6379");
    }

    #[test]
    fn secrets_are_never_shown() {
        let e = parse("redis://u:hunter2@h");
        assert!(!format!("{e} {e:?} {:?}", e.password()).contains("hunter2"));
        for url in [
            "redis://:hunter2",
            "hunter2",
            "redis://u:hunter2%zz@h",
            "redis://u:hunter2/@h",
            "unix://hunter2",
            "redis://h?hunter2=1",
            "redis://h/hunter2",
            "redis://hunter2 ",
            "hunter2://h",
        ] {
            let error = Endpoint::parse(url).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
            assert!(error.ends_with('.'), "{error}");
        }
    }

    #[test]
    fn environment_fills_only_what_is_missing() {
        let env = |name: &str| match name {
            USER_VARIABLE => Some("eu".to_owned()),
            PASSWORD_VARIABLE => Some("ep".to_owned()),
            _ => None,
        };
        let e = parse("redis://h").resolve_credentials(&env).unwrap();
        assert_eq!((e.user(), e.password()), (Some("eu"), Some(&Secret::new("ep"))));
        let e = parse("redis://me@h").resolve_credentials(&env).unwrap();
        assert_eq!((e.user(), e.password()), (Some("me"), Some(&Secret::new("ep"))));
        let e = parse("redis://:pw@h").resolve_credentials(&env).unwrap();
        assert_eq!((e.user(), e.password()), (None, Some(&Secret::new("pw"))));
        let file =
            |name: &str| (name == PASSWORD_FILE_VARIABLE).then(|| "/nonexistent/file".to_owned());
        assert!(
            parse("redis://h")
                .resolve_credentials(&file)
                .unwrap_err()
                .to_string()
                .contains("/nonexistent/file")
        );
    }
}
