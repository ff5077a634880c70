//! Where passwords come from: the URL, the environment, or a file; never an option's value.
//!
//! | server | looked for in this order |
//! | --- | --- |
//! | metadata | the URL, `--password-file`, `RINGFS_REDIS_PASSWORD`, `RINGFS_REDIS_PASSWORD_FILE` |
//! | node NAME | the URL, `RINGFS_NODE_<NAME>_PASSWORD`, `RINGFS_NODE_<NAME>_PASSWORD_FILE`, then as the metadata server without its URL |
//!
//! In variables the node's name is in upper case with `_` for `.` and `-`. A variable of a node that
//! is set and empty says that this node has no password.

use crate::failure::Failure;
use ringfs_base::NodeName;
use ringfs_link::Endpoint;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const PASSWORD: &str = "RINGFS_REDIS_PASSWORD";
const PASSWORD_FILE: &str = "RINGFS_REDIS_PASSWORD_FILE";

/// The variables of ours that were set when the program started.
#[derive(Clone, Default)]
pub struct Credentials {
    variables: BTreeMap<String, String>,
}

impl Credentials {
    /// From the process's environment; a password file given as an option goes before it.
    pub fn from_environment(password_file: Option<&Path>) -> Result<Credentials, Failure> {
        let ours = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            let name = name.into_string().ok()?;
            name.starts_with("RINGFS_").then(|| Some((name, value.into_string().ok()?)))?
        };
        Credentials::from_variables(std::env::vars_os().filter_map(ours), password_file)
    }

    fn from_variables(
        variables: impl Iterator<Item = (String, String)>,
        password_file: Option<&Path>,
    ) -> Result<Credentials, Failure> {
        let mut variables: BTreeMap<String, String> = variables.collect();
        if let Some(file) = password_file {
            let doing = format!("read the password file {}", file.display());
            let text = std::fs::read_to_string(file).map_err(|e| Failure::io(doing, &e))?;
            let Some(line) = text.lines().next().filter(|line| !line.is_empty()) else {
                return Err(Failure::usage(format!(
                    "the password file {} has an empty first line; write the password there",
                    file.display()
                )));
            };
            variables.insert(PASSWORD.to_owned(), line.to_owned());
        }
        Ok(Credentials { variables })
    }

    /// The metadata server with what its URL lacks.
    pub fn for_meta(&self, endpoint: Endpoint) -> Result<Endpoint, Failure> {
        Ok(endpoint.resolve_credentials(&|name| self.variables.get(name).cloned())?)
    }

    /// A node with what its URL lacks.
    pub fn for_node(&self, node: &NodeName, endpoint: Endpoint) -> Result<Endpoint, Failure> {
        let own = variable_of(node);
        let own_file = format!("{own}_FILE");
        let (password, file) = (self.variables.get(&own), self.variables.get(&own_file));
        if password.is_none() && file.is_none() {
            return self.for_meta(endpoint);
        }
        Ok(endpoint.resolve_credentials(&|name| match name {
            PASSWORD => password.cloned(),
            PASSWORD_FILE => file.cloned(),
            other => self.variables.get(other).cloned(),
        })?)
    }

    /// The files that hold passwords, so that a background process can be told where they are by an
    /// absolute path.
    pub fn absolute_files(&self) -> Vec<(String, PathBuf)> {
        self.variables
            .iter()
            .filter(|(name, value)| name.ends_with("_PASSWORD_FILE") && !value.is_empty())
            .filter_map(|(name, value)| Some((name.clone(), std::path::absolute(value).ok()?)))
            .collect()
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(***)")
    }
}

/// The variable that holds a node's password.
pub fn variable_of(node: &NodeName) -> String {
    let name: String = node
        .as_str()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .collect();
    format!("RINGFS_NODE_{name}_PASSWORD")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Credentials {
        let owned = variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        Credentials::from_variables(owned, None).unwrap()
    }
    fn bare() -> Endpoint {
        Endpoint::parse("redis://host").unwrap()
    }
    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    #[test]
    fn nodes_take_the_common_password_unless_they_have_their_own() {
        let c = with(&[("RINGFS_REDIS_PASSWORD", "x"), ("RINGFS_NODE_N_1_PASSWORD", "")]);
        assert!(c.for_node(&node("other"), bare()).unwrap().has_password());
        assert!(!c.for_node(&node("n-1"), bare()).unwrap().has_password());
    }

    #[test]
    fn a_password_file_goes_before_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pw");
        std::fs::write(&file, "secret\n").unwrap();
        let c = Credentials::from_variables(std::iter::empty(), Some(&file)).unwrap();
        assert!(c.for_meta(bare()).unwrap().has_password());
        std::fs::write(&file, "\n").unwrap();
        assert!(Credentials::from_variables(std::iter::empty(), Some(&file)).is_err());
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", with(&[("RINGFS_REDIS_PASSWORD", "x")])), "Credentials(***)");
    }
}
