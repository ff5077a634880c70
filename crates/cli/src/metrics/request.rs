//! From the bytes of an HTTP request to those of its answer.

/// Headers that a request may have.
const HEADERS_MAX: usize = 64;
/// Bytes that a request may have.
const REQUEST_BYTES_MAX: usize = 8 << 10;

/// What a scraper gets if it knows the format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// What everybody else gets.
const PLAIN_METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As <https://prometheus.io/docs/specs/om/open_metrics_spec/> has it.
    OpenMetrics,
    /// The older text format.
    Plain,
}

/// What the endpoint shows.
pub trait Page: Send {
    /// All metrics, from memory.
    fn metrics(&self, format: Format) -> Result<String, std::fmt::Error>;
    /// Whether the process does its work; if not, why.
    fn health(&self) -> Result<(), String>;
}

/// The answer to a request; `None` while there is more of it to come.
pub fn answer(request: &[u8], page: &dyn Page) -> Option<Vec<u8>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(request) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) if request.len() < REQUEST_BYTES_MAX => return None,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Some(say(431, "Request Header Fields Too Large", "the request is too long\n"));
        }
        Err(error) => {
            return Some(say(400, "Bad Request", &format!("this is no HTTP request: {error}\n")));
        }
    }
    if parsed.method != Some("GET") {
        let body = "only GET is served here\n";
        return Some(respond("405 Method Not Allowed", "Allow: GET\r\n", PLAIN, body));
    }
    let path = parsed.path.unwrap_or_default();
    Some(match path.split('?').next().unwrap_or_default() {
        "/metrics" => {
            let knows = parsed.headers.iter().any(|header| {
                header.name.eq_ignore_ascii_case("accept")
                    && String::from_utf8_lossy(header.value)
                        .contains("application/openmetrics-text")
            });
            let (format, kind) = match knows {
                true => (Format::OpenMetrics, OPEN_METRICS),
                false => (Format::Plain, PLAIN_METRICS),
            };
            match page.metrics(format) {
                Ok(text) => respond("200 OK", "", kind, &text),
                Err(error) => say(500, "Internal Server Error", &format!("{error}\n")),
            }
        }
        "/healthz" => match page.health() {
            Ok(()) => say(200, "OK", "ok\n"),
            Err(why) => say(503, "Service Unavailable", &format!("{why}\n")),
        },
        "/" => say(200, "OK", "RingFS. Metrics are at /metrics, health is at /healthz.\n"),
        _ => say(404, "Not Found", "there are /metrics and /healthz\n"),
    })
}

fn say(code: u16, reason: &str, body: &str) -> Vec<u8> {
    respond(&format!("{code} {reason}"), "", PLAIN, body)
}

fn respond(status: &str, more: &str, kind: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Connection: close\r\n{more}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Ill;

    impl Page for Ill {
        fn metrics(&self, _: Format) -> Result<String, std::fmt::Error> {
            Ok("a 1\n# EOF\n".to_owned())
        }
        fn health(&self) -> Result<(), String> {
            Err("not well".to_owned())
        }
    }

    fn ask(request: &str) -> String {
        String::from_utf8(answer(request.as_bytes(), &Ill).unwrap()).unwrap()
    }

    #[test]
    fn metrics_come_in_the_format_that_was_asked_for() {
        let plain = ask("GET /metrics HTTP/1.1\r\n\r\n");
        assert!(plain.contains("Content-Type: text/plain; version=0.0.4"), "{plain}");
        assert!(
            plain.contains("Content-Length: 10\r\n") && plain.ends_with("\r\n\r\na 1\n# EOF\n")
        );
        let open = "GET /metrics?x=1 HTTP/1.1\r\nACCEPT: text/html, application/openmetrics-text;q=1\r\n\r\n";
        assert!(ask(open).contains("Content-Type: application/openmetrics-text; version=1.0.0"));
    }

    #[test]
    fn what_is_not_served_is_refused() {
        for (request, status) in [
            ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", "405"),
            ("GET /../etc/passwd HTTP/1.1\r\n\r\n", "404"),
            ("GET /metricsx HTTP/1.1\r\n\r\n", "404"),
            ("GET /healthz HTTP/1.1\r\n\r\n", "503"),
            ("nonsense\r\n\r\n", "400"),
        ] {
            assert!(ask(request).starts_with(&format!("HTTP/1.1 {status} ")), "{request}");
        }
        let long = format!("GET /metrics HTTP/1.1\r\nX: {}", "y".repeat(REQUEST_BYTES_MAX));
        assert!(ask(&long).starts_with("HTTP/1.1 431 "));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
        assert!(ask(&many).starts_with("HTTP/1.1 431 "));
        assert!(answer(b"GET /metrics HTTP/1.1\r\nHost: x\r\n", &Ill).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_get_an_answer_or_are_waited_for(
            bytes in proptest::collection::vec(any::<u8>(), 0..200)
        ) {
            answer(&bytes, &Ill);
        }
    }
}
