//! The first exchange on a connection: RESP3, who we are, which database.

use super::Conn;
use crate::cmd::Cmd;
use crate::error::LinkError;
use crate::reply::Reply;
use std::fmt;
use std::time::Instant;

/// What `CLIENT LIST` shows for our connections.
const CLIENT_NAME: &str = "ringfs";

/// The family of the server software.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerKind {
    /// Redis.
    Redis,
    /// Valkey.
    Valkey,
    /// Something that speaks the same protocol.
    Other,
}

/// What the server says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerVersion {
    /// The software.
    pub kind: ServerKind,
    /// As in 7 of 7.0.15; 0.0.0 if it does not say.
    pub major: u16,
    /// As in 0 of 7.0.15.
    pub minor: u16,
    /// As in 15 of 7.0.15.
    pub patch: u16,
}

impl ServerVersion {
    pub(crate) const UNKNOWN: ServerVersion =
        ServerVersion { kind: ServerKind::Other, major: 0, minor: 0, patch: 0 };

    fn parse(kind: &[u8], version: &[u8]) -> ServerVersion {
        let kind = match kind {
            b"redis" => ServerKind::Redis,
            b"valkey" => ServerKind::Valkey,
            _ => ServerKind::Other,
        };
        let text = String::from_utf8_lossy(version);
        // A pre-release has more after the number, as in 8.0.0-rc1.
        let mut numbers = text.split(['.', '-']).map(|part| part.trim().parse().unwrap_or(0));
        let mut number = || numbers.next().unwrap_or(0);
        ServerVersion { kind, major: number(), minor: number(), patch: number() }
    }

    /// At least this version of either Redis or Valkey, which counts on from Redis 7.2.
    pub fn at_least(&self, major: u16, minor: u16) -> bool {
        (self.major, self.minor) >= (major, minor)
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ServerKind::Redis => "Redis",
            ServerKind::Valkey => "Valkey",
            ServerKind::Other => "server",
        };
        write!(f, "{kind} {}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Nothing of the caller's has been sent yet, so every failure is one of reaching the server.
pub(super) fn run(conn: &mut Conn, deadline: Instant) -> Result<(), LinkError> {
    exchange(conn, deadline).map_err(|e| match e {
        LinkError::Lost { server, cause } => LinkError::Unavailable { server, cause },
        LinkError::TimedOut { server, after } => LinkError::Unavailable {
            server,
            cause: format!(
                "it accepts connections but did not answer within {} ms",
                after.as_millis()
            ),
        },
        other => other,
    })
}

fn exchange(conn: &mut Conn, deadline: Instant) -> Result<(), LinkError> {
    let ep = conn.endpoint.clone();
    let user = ep.user().unwrap_or("default");
    let mut hello = Cmd::new("HELLO").int(3);
    if let Some(password) = ep.password() {
        hello = hello.arg("AUTH").arg(user).arg(password.reveal());
    }
    let select = (ep.db() != 0).then(|| Cmd::new("SELECT").int(i64::from(ep.db())));
    let cmds: Vec<Cmd<'_>> =
        [hello.arg("SETNAME").arg(CLIENT_NAME)].into_iter().chain(select.clone()).collect();
    conn.send_all(&cmds, deadline)?;
    let greeting = conn.recv(deadline);
    let selected = if select.is_some() { conn.recv(deadline).map(|_| ()) } else { Ok(()) };
    match greeting {
        Ok(reply) => {
            conn.version = version_of(reply).map_err(|e| e.at(conn.name()))?;
            selected
        }
        Err(e) if speaks_only_resp2(&e) => exchange_resp2(conn, select, deadline),
        // "max number of clients reached" and its like.
        Err(LinkError::Server { server, code, text }) => {
            Err(LinkError::Unavailable { server, cause: format!("it answered {code} {text}") })
        }
        Err(e) => Err(e),
    }
}

/// Redis before 6 has no HELLO; some look-alikes have it without version 3.
fn speaks_only_resp2(e: &LinkError) -> bool {
    match e {
        LinkError::Server { code, text, .. } => {
            code == "NOPROTO"
                || (code == "ERR" && text.to_ascii_lowercase().starts_with("unknown command"))
        }
        // Redis before 6 asks for the password before it looks at the command.
        LinkError::Auth { text, .. } => text.starts_with("Authentication required"),
        _ => false,
    }
}

fn exchange_resp2(
    conn: &mut Conn,
    select: Option<Cmd<'_>>,
    deadline: Instant,
) -> Result<(), LinkError> {
    let ep = conn.endpoint.clone();
    if let Some(password) = ep.password() {
        let auth = Cmd::new("AUTH");
        let auth = match ep.user() {
            Some(user) => auth.arg(user),
            None => auth,
        };
        conn.send(&auth.arg(password.reveal()), deadline)?;
        match conn.recv(deadline) {
            // Redis before 6 says "ERR invalid password".
            Err(LinkError::Server { server, text, .. }) => {
                return Err(LinkError::Auth { server, text });
            }
            other => other?,
        };
    }
    if let Some(select) = select {
        conn.send(&select, deadline)?;
        conn.recv(deadline)?;
    }
    conn.send_all(
        &[Cmd::new("CLIENT").arg("SETNAME").arg(CLIENT_NAME), Cmd::new("INFO").arg("server")],
        deadline,
    )?;
    // Neither is needed, and an ACL may forbid both; only a broken connection matters.
    for is_info in [false, true] {
        match conn.recv(deadline) {
            Ok(reply) if is_info => {
                conn.version = version_in_info(reply.as_bytes().unwrap_or_default())
            }
            Err(e) if e.breaks_connection() => return Err(e),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

fn version_of(greeting: Reply) -> Result<ServerVersion, LinkError> {
    let (mut kind, mut version) = (None, None);
    for (key, value) in greeting.into_map()? {
        match key.as_bytes() {
            Some(b"server") => kind = value.into_bytes()?,
            Some(b"version") => version = value.into_bytes()?,
            _ => {}
        }
    }
    Ok(ServerVersion::parse(&kind.unwrap_or_default(), &version.unwrap_or_default()))
}

fn version_in_info(info: &[u8]) -> ServerVersion {
    let text = String::from_utf8_lossy(info);
    let field =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    match (field("valkey_version"), field("redis_version")) {
        (Some(version), _) => ServerVersion::parse(b"valkey", version.as_bytes()),
        (None, Some(version)) => ServerVersion::parse(b"redis", version.as_bytes()),
        (None, None) => ServerVersion::UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_leniently() {
        let v = ServerVersion::parse(b"redis", b"7.0.15");
        assert_eq!(v.to_string(), "Redis 7.0.15");
        assert!(v.at_least(6, 2) && v.at_least(7, 0) && !v.at_least(7, 2));
        assert_eq!(ServerVersion::parse(b"valkey", b"8.1.0-rc1").to_string(), "Valkey 8.1.0");
        assert_eq!(
            version_in_info(b"# Server\r\nredis_version:5.0.3\r\n").to_string(),
            "Redis 5.0.3"
        );
        assert_eq!(version_in_info(b""), ServerVersion::UNKNOWN);
    }
}
