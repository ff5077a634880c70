//! The option `--node NAME=URL[,weight=N][,zone=ZONE]`.

use crate::failure::Failure;
use ringfs_base::{NodeName, ZoneName};
use ringfs_link::Endpoint;
use std::str::FromStr;

/// One node as the command line names it.
#[derive(Clone, Debug)]
pub struct NodeOption {
    /// Its name.
    pub name: NodeName,
    /// Its address.
    pub endpoint: Endpoint,
    /// Its part of the data, relative to the others.
    pub weight: u32,
    /// What it may fail together with.
    pub zone: Option<ZoneName>,
}

/// Reads all of them. Not left to the parser of the command line, which would quote a wrong one.
pub fn parse_all(texts: &[String]) -> Result<Vec<NodeOption>, Failure> {
    texts.iter().map(|text| text.parse().map_err(|error: String| Failure::usage(error))).collect()
}

impl FromStr for NodeOption {
    type Err = String;

    /// The error quotes no URL: there may be a password in it.
    fn from_str(text: &str) -> Result<NodeOption, String> {
        const FORM: &str =
            "a node is NAME=URL[,weight=N][,zone=ZONE], as a=redis://host:6379,weight=2";
        let (name, rest) = text.split_once('=').ok_or(FORM)?;
        if name.contains("://") {
            return Err(FORM.to_owned());
        }
        let name = NodeName::new(name).map_err(|e| e.to_string())?;
        let (mut url, mut weight, mut zone) = (rest, 1, None);
        while let Some((before, last)) = url.rsplit_once(',') {
            match last.split_once('=') {
                Some(("weight", value)) => {
                    weight = value
                        .parse()
                        .ok()
                        .filter(|w| (1..=1_000_000).contains(w))
                        .ok_or_else(|| {
                            format!("the weight of node {name} must be a number from 1 to 1000000")
                        })?;
                }
                Some(("zone", value)) => {
                    zone = Some(ZoneName::new(value).map_err(|e| format!("node {name}: {e}"))?);
                }
                _ => break,
            }
            url = before;
        }
        let endpoint = Endpoint::parse(url)
            .map_err(|e| format!("node {name}: {}", e.to_string().trim_end_matches('.')))?;
        Ok(NodeOption { name, endpoint, weight, zone })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts() {
        let node: NodeOption = "a=redis://h1:6379/2,zone=z1,weight=3".parse().unwrap();
        assert_eq!((node.name.as_str(), node.weight), ("a", 3));
        assert_eq!(node.zone.unwrap().as_str(), "z1");
        assert_eq!(node.endpoint.to_url_without_password(), "redis://h1:6379/2");
        let plain: NodeOption = "b-2=unix:///run/r.sock".parse().unwrap();
        assert_eq!((plain.weight, plain.zone), (1, None));
    }

    #[test]
    fn errors_say_the_form_and_no_password() {
        for bad in [
            "redis://u:hunter2@h",
            "a",
            "a b=redis://u:hunter2@h",
            "a=http://u:hunter2@h",
            "a=redis://u:hunter2@h,weight=0",
            "a=redis://u:hunter2@h,zone=",
            "a=redis://u:hunter2@h,color=red",
        ] {
            let error = bad.parse::<NodeOption>().unwrap_err();
            assert!(!error.contains("hunter2"), "{bad}: {error}");
        }
    }
}
