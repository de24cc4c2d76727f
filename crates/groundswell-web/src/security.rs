//! What every request passes: its host, its origin, its token or session, its rate; and what every answer carries.

use std::{
    cell::Cell,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{Extensions, HeaderName, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{
    app::{Inner, Refusal},
    body::Shared,
    caller::{Caller, Ends},
    problem::{Kind, Problem},
    server::Stranger,
};

/// What a page of ours may load and do: only what comes from here, and no inline script or style.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What everything else may: nothing, even if a browser takes a stored value for a page.
const DATA_POLICY: &str = "default-src 'none'; sandbox; frame-ancestors 'none'";

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Lets a request pass, or refuses it; counts and logs what is refused to strangers, here or later. A query, which may
/// have a secret or a key, is not logged.
pub(crate) async fn guard(State(app): State<Arc<Inner>>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let is_page = matches!(&*path, "/" | "/open") || path.starts_with("/assets/");
    let waits = request.headers().contains_key(header::EXPECT);
    let (parts, body) = request.into_parts();
    let body = Shared::new(body);
    let request = Request::from_parts(parts, Body::new(body.clone()));
    if let Some(ends) = request.extensions().get::<Ends>().filter(|ends| !ends.is_known())
        && needs_caller(&app, &request)
    {
        // The system's table of connections can be long, and a look at it long: the threads of the node are not for that.
        let ends = ends.clone();
        let _ = tokio::task::spawn_blocking(move || ends.caller()).await;
    }
    let mut response = match check(&app, &request, is_page) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    if !body.drain(waits).await {
        // What is left of it is no request.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(kind) = response.extensions().get::<Kind>().filter(|kind| is_refusal(**kind))
        && let Some(Refusal { refused, left_out }) = app.counts.refused()
    {
        tracing::warn!(kind = kind.word(), %method, path, refused, left_out, "a request is refused");
    }
    let headers = response.headers_mut();
    let policy = if is_page { PAGE_POLICY } else { DATA_POLICY };
    let mut say = |name: HeaderName, value: &'static str| drop(headers.insert(name, HeaderValue::from_static(value)));
    say(header::CONTENT_SECURITY_POLICY, policy);
    say(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    say(header::X_FRAME_OPTIONS, "DENY");
    say(header::REFERRER_POLICY, "no-referrer");
    say(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    say(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

fn check(app: &Inner, request: &Request, is_page: bool) -> Result<(), Problem> {
    let headers = request.headers();
    let host = host(request)?;
    if !app.is_own_host(host) {
        let detail = format!("{host} is not a name of this device that it was told: use its address, or localhost");
        return Err(Problem::new(Kind::ForeignHost, detail));
    }
    let foreign = |detail: &str| Err(Problem::new(Kind::ForeignOrigin, detail));
    let origin = match headers.get(header::ORIGIN) {
        None => false,
        Some(origin) if is_origin_of(origin, host) => true,
        Some(_) => return foreign("the Origin is another than the page's own"),
    };
    let site = headers.get(FETCH_SITE).map(HeaderValue::as_bytes);
    let navigates = is_page && headers.get(FETCH_MODE).is_some_and(|mode| mode == "navigate");
    if !matches!(site, None | Some(b"same-origin" | b"none")) && !navigates {
        return foreign("another site's page has sent it");
    }
    let caller = || caller(request.extensions());
    let by_cookie = match authorized(app, request, caller) {
        Ok(by_cookie) => by_cookie,
        // A page is for whoever can show that it is for him, however many others ask; and for some others.
        Err(_) if is_page && has_link(app, request, caller) => false,
        Err(problem) => {
            return if !app.rates.strange.take() {
                Err(too_many())
            } else if is_page {
                Ok(())
            } else {
                Err(problem)
            };
        }
    };
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if by_cookie && !reads && !origin && site != Some(b"same-origin") {
        return foreign("a change that comes with a session has to say its Origin: scripts use the token");
    }
    if let Some(stranger) = request.extensions().get::<Stranger>() {
        stranger.is_known();
    }
    match app.rates.known.take() {
        true => Ok(()),
        false => Err(too_many()),
    }
}

/// Returns true if the request has a session or a link that is bound to an account.
fn needs_caller(app: &Inner, request: &Request) -> bool {
    let asked = Cell::new(false);
    let caller = || {
        asked.set(true);
        Caller::Gone
    };
    authorized(app, request, caller).is_err() && !has_link(app, request, caller) && asked.get()
}

/// Whether a request opens a one-time link that is valid.
fn has_link(app: &Inner, request: &Request, caller: impl Fn() -> Caller) -> bool {
    let code = request.uri().query().and_then(|query| query.strip_prefix("code="));
    request.uri().path() == "/open" && code.is_some_and(|code| app.keys.is_code(code.as_bytes(), caller))
}

/// Who has sent a request, where that is known: not in a server of the user's own.
pub(crate) fn caller(extensions: &Extensions) -> Caller {
    extensions.get::<Ends>().map_or(Caller::Unknown, Ends::caller)
}

/// Whether someone was turned away who may mean harm, or does not know what the interface takes; all else that can't be
/// done is between the interface and its user.
fn is_refusal(kind: Kind) -> bool {
    use Kind::{
        BadCode, ForeignHost, ForeignOrigin, NoToken, NotFound, TooLarge, TooManyRequests, TooSlow, ValueTooLarge,
    };
    matches!(
        kind,
        NoToken
            | ForeignHost
            | ForeignOrigin
            | BadCode
            | NotFound
            | TooLarge
            | ValueTooLarge
            | TooSlow
            | TooManyRequests
    )
}

fn too_many() -> Problem {
    Problem::new(Kind::TooManyRequests, "too many requests in this second: follow a stream in place of asking again")
}

/// The one host that a request names.
fn host(request: &Request) -> Result<&str, Problem> {
    let mut named = request.headers().get_all(header::HOST).iter();
    let host = match (named.next(), named.next()) {
        (Some(host), None) => host.to_str().ok(),
        (None, _) => request.uri().authority().map(|authority| authority.as_str()),
        _ => None,
    };
    host.ok_or_else(|| Problem::new(Kind::ForeignHost, "the request does not name one host"))
}

/// Whether an origin is that of the pages of this host.
fn is_origin_of(origin: &HeaderValue, host: &str) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let name = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    name.is_some_and(|name| name.eq_ignore_ascii_case(host))
}

/// Whether a host is this device by its loopback, or one of these names.
pub(crate) fn is_own_host(host: &str, names: &[String]) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some((name, "")) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let loopback = bare.parse::<IpAddr>().is_ok_and(|addr| addr.is_loopback());
    loopback || name.eq_ignore_ascii_case("localhost") || names.iter().any(|own| name.eq_ignore_ascii_case(own))
}

/// Whether a request may use the interface, and if so, whether it is by its cookie.
fn authorized(app: &Inner, request: &Request, caller: impl Fn() -> Caller) -> Result<bool, Problem> {
    let headers = request.headers();
    let refused = |detail: String| Err(Problem::new(Kind::NoToken, detail));
    if let Some(given) = headers.get(header::AUTHORIZATION) {
        let token = given.as_bytes().split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer "));
        return match token {
            Some((_, token)) if app.keys.is_token(token) => Ok(false),
            _ => {
                refused("the token is not that of the data directory: send the text of its file http-token".to_owned())
            }
        };
    }
    let name = app.cookie_name();
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let is_ours = |session: &str| app.keys.is_session(session, &caller);
    if pairs.any(|(found, session)| found == name && is_ours(session)) {
        return Ok(true);
    }
    refused(
        "send `Authorization: Bearer` and the text of the file http-token in the data directory, or open the dashboard by a new link"
            .to_owned(),
    )
}

/// So many in a second, and as many at once after a pause.
pub(crate) struct Bucket {
    per_second: f64,
    left: Mutex<(f64, Instant)>,
}

impl Bucket {
    pub(crate) fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, left: Mutex::new((per_second, Instant::now())) }
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&self) -> bool {
        self.take_at(Instant::now())
    }

    fn take_at(&self, now: Instant) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.saturating_duration_since(left.1).as_secs_f64();
        *left = ((left.0 + since * self.per_second).min(self.per_second), now);
        if left.0 < 1.0 {
            return false;
        }
        left.0 -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_names_of_this_device_are_its_own() {
        let names = ["kiosk.lan".to_owned()];
        for own in
            ["localhost", "LOCALHOST:1", "127.0.0.1:7", "127.9.9.9", "[::1]:80", "[::1]", "kiosk.lan:8080", "Kiosk.lan"]
        {
            assert!(is_own_host(own, &names), "{own}");
        }
        let foreign = [
            "",
            "example.org",
            "localhost.example.org",
            "127.0.0.1.example.org",
            "192.168.1.5",
            "[::2]:80",
            "0.0.0.0",
            "kiosk.lan.evil",
            "user@localhost",
        ];
        for foreign in foreign {
            assert!(!is_own_host(foreign, &names), "{foreign}");
        }
    }

    #[test]
    fn an_origin_is_that_of_the_host_with_its_port() {
        let is = |origin: &'static str, host| is_origin_of(&HeaderValue::from_static(origin), host);
        assert!(is("http://localhost:1", "localhost:1") && is("https://kiosk.lan", "kiosk.lan"));
        for foreign in
            ["null", "http://localhost:2", "http://localhost", "http://localhost:1.example.org", "localhost:1"]
        {
            assert!(!is(foreign, "localhost:1"), "{foreign}");
        }
    }

    #[test]
    fn a_bucket_gives_what_a_second_has() {
        let bucket = Bucket::new(10);
        let now = Instant::now() + Duration::from_secs(1);
        assert_eq!((0..20).filter(|_| bucket.take_at(now)).count(), 10);
        let later = now + Duration::from_millis(500);
        assert_eq!((0..20).filter(|_| bucket.take_at(later)).count(), 5);
    }

    #[test]
    fn the_policy_of_pages_allows_no_inline_script() {
        assert!(PAGE_POLICY.contains("script-src 'self';") && !PAGE_POLICY.contains("unsafe"));
        assert!(PAGE_POLICY.starts_with("default-src 'none'") && DATA_POLICY.contains("sandbox"));
    }
}
