//! Protects the agent from web pages that misuse a browser on this machine (cross-site request forgery, DNS rebinding).
//!
//! A browser sends client certificates automatically and can reach addresses that only this machine can reach. A page of another
//! origin does not know the token of the user, so these checks apply only if no tokens are configured.

use std::net::IpAddr;

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Uri,
    header::{HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS},
};

use super::answer::ApiError;
use crate::api::security::Role;

/// Request header that describes the relation between the origin of the requesting page and this server (W3C Fetch Metadata).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Request header that contains the mode of the request. The mode is `navigate` if the user has opened a page (W3C Fetch
/// Metadata).
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
/// Response header that restricts which origins can embed the response in their pages (Fetch Standard,
/// Cross-Origin-Resource-Policy).
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Headers of every response. They stop browsers from guessing the content type, and from including the response in pages of
/// other origins.
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

/// Rejects requests for a host name that a foreign DNS server could resolve to this machine.
///
/// # Errors
/// Fails unless the host is an IP address, `localhost`, a subdomain of `localhost`, or a name without a dot.
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
    let message = format!("host {name:?} rejected: without credentials, the Host header must contain an IP address or a local name");
    Err(ApiError::new(StatusCode::FORBIDDEN, message))
}

/// Rejects requests that come from pages of another origin.
///
/// Navigation by the user, such as a click on a link, is allowed from any page if the request requires only the role `read`.
///
/// # Errors
/// Fails if a page of another origin caused the request.
pub fn check_origin(headers: &HeaderMap, uri: &Uri, needs: Role) -> Result<(), ApiError> {
    let site = headers.get(FETCH_SITE).map(HeaderValue::as_bytes);
    let same_site = matches!(site, None | Some(b"same-origin" | b"none"));
    if needs == Role::Read {
        // Users are allowed to follow a link to the agent from any page.
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
    let message = format!("the request comes from {page}; without a token, only requests from the agent's own pages are accepted");
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
    fn host_names_resolvable_by_foreign_dns_servers_are_refused() {
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
    fn only_pages_of_the_agent_may_change_state() {
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
    fn origin_is_foreign_if_the_request_has_no_host() {
        assert!(check_origin(&headers(&[("origin", "http://")]), &Uri::from_static("/x"), Role::Write).is_err());
        let uri: Uri = "http://127.0.0.1:9191/x".parse().expect("a URI");
        assert!(check_origin(&headers(&[("origin", "http://127.0.0.1:9191")]), &uri, Role::Write).is_ok());
    }
}
