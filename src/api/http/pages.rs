//! Protection against web pages that use a browser on this machine (cross-site request forgery, DNS rebinding).
//!
//! A browser attaches client certificates by itself and reaches addresses that only this machine can reach. It cannot attach a
//! token of another page. So requests with tokens are not checked here.

use std::net::IpAddr;

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Uri,
    header::{HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS},
};

use super::answer::ApiError;
use crate::api::security::Role;

/// Where the page that sends a request comes from, as seen by the browser (W3C Fetch Metadata).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Whether the user opened a page or a page asked for something.
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
/// Which pages may include an answer (Fetch Standard, Cross-Origin-Resource-Policy).
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Headers of every answer: browsers neither guess its type nor give it to pages of other origins.
pub const HEADERS: [(HeaderName, HeaderValue); 2] = [
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (RESOURCE_POLICY, HeaderValue::from_static("same-origin")),
];

/// Returns the host and port that the client used to reach the agent.
fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> &'a str {
    let named = || headers.get(HOST).and_then(|value| value.to_str().ok());
    let authority = uri.authority().map(|authority| authority.as_str());
    authority.or_else(named).unwrap_or_default()
}

/// Refuses requests for a host name that somebody else's DNS server can point to this machine.
///
/// # Errors
/// The name is neither an address nor `localhost` nor a name without a dot.
pub fn check_host(headers: &HeaderMap, uri: &Uri) -> Result<(), ApiError> {
    let host = host(headers, uri);
    let split = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = split.map_or(host, |(name, _)| name);
    let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    if is_address || !name.contains('.') || name.ends_with(".localhost") {
        return Ok(());
    }
    let message = format!("the agent was called {name:?}; without credentials it answers to addresses and local names only");
    Err(ApiError::new(StatusCode::FORBIDDEN, message))
}

/// Refuses changes that a page of another origin asks for, and reads that such a page makes without the user opening them.
///
/// # Errors
/// The request comes from such a page.
pub fn check_origin(headers: &HeaderMap, uri: &Uri, needs: Role) -> Result<(), ApiError> {
    let site = headers.get(FETCH_SITE).map(HeaderValue::as_bytes);
    let same_site = matches!(site, None | Some(b"same-origin" | b"none"));
    if needs == Role::Read {
        // A link to the agent is followed wherever it stands.
        let opened = headers.get(FETCH_MODE).is_some_and(|mode| mode == "navigate");
        return if same_site || opened {
            Ok(())
        } else {
            Err(foreign("a page of another origin"))
        };
    }
    let host = host(headers, uri);
    let ours = |origin: &HeaderValue| {
        let origin = origin.to_str().unwrap_or_default();
        let named = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        named.is_some_and(|named| !named.is_empty() && named.eq_ignore_ascii_case(host))
    };
    match headers.get_all(ORIGIN).iter().find(|origin| !ours(origin)) {
        Some(origin) => Err(foreign(&format!("a page of {:?}", String::from_utf8_lossy(origin.as_bytes())))),
        None if same_site => Ok(()),
        None => Err(foreign("a page of another origin")),
    }
}

fn foreign(page: &str) -> ApiError {
    let message = format!("the request comes from {page}; only pages of the agent itself may use it without a token");
    ApiError::new(StatusCode::FORBIDDEN, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs.iter().map(pair) {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn names_that_foreign_dns_servers_own_are_refused() {
        let accepted = |host: &'static str| check_host(&headers(&[("host", host)]), &Uri::from_static("/x")).is_ok();
        for host in [
            "127.0.0.1:9191",
            "localhost:9191",
            "[::1]:9191",
            "::1",
            "agent",
            "agent.localhost",
            "10.1.2.3",
        ] {
            assert!(accepted(host), "{host}");
        }
        for host in ["evil.example", "evil.example:9191", "127.0.0.1.evil.example"] {
            assert!(!accepted(host), "{host}");
        }
    }

    #[test]
    fn only_pages_of_the_agent_may_change_anything() {
        let accepted = |extra: &[(&'static str, &'static str)], needs| {
            let all = [&[("host", "127.0.0.1:9191")], extra].concat();
            check_origin(&headers(&all), &Uri::from_static("/x"), needs).is_ok()
        };
        for origin in [
            "null",
            "",
            "http://",
            "127.0.0.1:9191",
            "http://evil.example",
            "http://127.0.0.1:80",
            "http://127.0.0.1:9191.evil.example",
            "http://127.0.0.1:9191, http://evil.example",
            "file://127.0.0.1:9191",
            "chrome-extension://abc",
        ] {
            assert!(!accepted(&[("origin", origin)], Role::Write), "{origin}");
            assert!(accepted(&[("origin", origin)], Role::Read), "{origin}");
        }
        let own = ("origin", "http://127.0.0.1:9191");
        assert!(accepted(&[], Role::Write) && accepted(&[own], Role::Write));
        assert!(!accepted(&[own, ("origin", "http://evil.example")], Role::Write), "two origins");
        for (site, writes) in [
            ("same-origin", true),
            ("none", true),
            ("same-site", false),
            ("cross-site", false),
            ("new", false),
        ] {
            assert_eq!(accepted(&[("sec-fetch-site", site)], Role::Write), writes, "{site}");
            assert_eq!(accepted(&[("sec-fetch-site", site)], Role::Read), writes, "{site}");
            let navigation = [("sec-fetch-site", site), ("sec-fetch-mode", "navigate")];
            assert!(accepted(&navigation, Role::Read), "{site}");
            assert_eq!(accepted(&navigation, Role::Write), writes, "{site}");
        }
    }

    #[test]
    fn a_request_without_a_host_has_no_own_origin() {
        assert!(check_origin(&headers(&[("origin", "http://")]), &Uri::from_static("/x"), Role::Write).is_err());
        let uri: Uri = "http://127.0.0.1:9191/x".parse().expect("a URI");
        assert!(check_origin(&headers(&[("origin", "http://127.0.0.1:9191")]), &uri, Role::Write).is_ok());
    }
}
