//! The dashboard's files, which are part of the program, and the one-time link that opens it.

use std::sync::{Arc, LazyLock};

use axum::{
    extract::State,
    http::{Extensions, HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::{
    app::Inner,
    limits::SESSION_LIFETIME,
    problem::{Kind, Problem},
    query::Query,
    routes::Part,
    security,
};

/// A file as it is sent.
struct File {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    tag: LazyLock<HeaderValue>,
}

macro_rules! file {
    ($name:literal, $kind:literal) => {
        File {
            name: $name,
            kind: $kind,
            bytes: include_bytes!(concat!("../dashboard/", $name)),
            tag: LazyLock::new(|| tag(include_bytes!(concat!("../dashboard/", $name)))),
        }
    };
}

static PAGE: File = file!("index.html", "text/html; charset=utf-8");

/// The files that the page asks for, below `assets/`: all of the folder but the page and the tests.
static ASSETS: [File; 24] = [
    file!("api.js", "text/javascript; charset=utf-8"),
    file!("app.js", "text/javascript; charset=utf-8"),
    file!("bytes.js", "text/javascript; charset=utf-8"),
    file!("choice.js", "text/javascript; charset=utf-8"),
    file!("confirm.js", "text/javascript; charset=utf-8"),
    file!("dom.js", "text/javascript; charset=utf-8"),
    file!("entries.js", "text/javascript; charset=utf-8"),
    file!("frame.js", "text/javascript; charset=utf-8"),
    file!("icon.svg", "image/svg+xml"),
    file!("json.js", "text/javascript; charset=utf-8"),
    file!("model.js", "text/javascript; charset=utf-8"),
    file!("rock.js", "text/javascript; charset=utf-8"),
    file!("series.js", "text/javascript; charset=utf-8"),
    file!("stream.js", "text/javascript; charset=utf-8"),
    file!("style.css", "text/css; charset=utf-8"),
    file!("topics.js", "text/javascript; charset=utf-8"),
    file!("view-entries.js", "text/javascript; charset=utf-8"),
    file!("view-entry.js", "text/javascript; charset=utf-8"),
    file!("view-head.js", "text/javascript; charset=utf-8"),
    file!("view-machines.js", "text/javascript; charset=utf-8"),
    file!("view-paths.js", "text/javascript; charset=utf-8"),
    file!("view-plot.js", "text/javascript; charset=utf-8"),
    file!("view-rock.js", "text/javascript; charset=utf-8"),
    file!("words.js", "text/javascript; charset=utf-8"),
];

fn tag(bytes: &[u8]) -> HeaderValue {
    let text = format!("\"{}\"", blake3::hash(bytes).to_hex());
    // Hexadecimal digits in quotes are a header's value.
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

impl File {
    fn respond(&self, headers: &HeaderMap) -> Response {
        let shared = [
            (header::ETAG, self.tag.clone()),
            // A browser keeps the file, and asks each time whether it is the newest.
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        ];
        let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
        let mut known = known.flat_map(|tags| tags.split(',')).map(|tag| tag.trim().trim_start_matches("W/"));
        if known.any(|tag| tag == "*" || self.tag.to_str().is_ok_and(|own| own == tag)) {
            return (StatusCode::NOT_MODIFIED, shared).into_response();
        }
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(self.kind))];
        (shared, kind, self.bytes).into_response()
    }
}

pub(crate) async fn page(headers: HeaderMap) -> Response {
    PAGE.respond(&headers)
}

pub(crate) async fn asset(Part(name): Part, headers: HeaderMap) -> Result<Response, Problem> {
    let file = ASSETS.iter().find(|file| file.name == name);
    let file = file.ok_or_else(|| Problem::new(Kind::NotFound, "the dashboard has no such file"))?;
    Ok(file.respond(&headers))
}

/// Turns the code of a one-time link into a session.
pub(crate) async fn open(
    State(app): State<Arc<Inner>>,
    query: Query,
    headers: HeaderMap,
    extensions: Extensions,
) -> Result<Response, Problem> {
    let looks_ahead = |name: &str| {
        let purpose = headers.get(name).and_then(|purpose| purpose.to_str().ok());
        purpose.is_some_and(|purpose| purpose.contains("prefetch"))
    };
    if looks_ahead("sec-purpose") || looks_ahead("purpose") {
        return Err(Problem::new(Kind::BadCode, "the link is not used up by looking ahead: open it"));
    }
    query.only(&["code"])?;
    let caller = || security::caller(&extensions);
    if !app.keys.use_code(query.needed("code")?.as_bytes(), caller) {
        return Err(Problem::new(
            Kind::BadCode,
            "a link opens the dashboard once, within five minutes, and one that a browser was started with opens it for that \
             account alone: ask the program that printed it for a new one",
        ));
    }
    let (name, session) = (app.cookie_name(), app.keys.new_session(caller()));
    let seconds = SESSION_LIFETIME.as_secs();
    let cookie = format!("{name}={session}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict");
    let cookie = HeaderValue::from_str(&cookie).map_err(|error| Problem::new(Kind::Internal, error))?;
    // The page is beside this address, wherever the routes are mounted.
    let headers = [(header::SET_COOKIE, cookie), (header::LOCATION, HeaderValue::from_static("./"))];
    Ok((StatusCode::SEE_OTHER, headers).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_runs_under_its_policy_and_asks_for_files_that_there_are() {
        let page = std::str::from_utf8(PAGE.bytes).unwrap();
        assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains("javascript:"));
        for script in page.split("<script").skip(1) {
            let (tag, rest) = script.split_once('>').unwrap();
            assert!(tag.contains("src=") && rest.trim_start().starts_with("</script>"), "an inline script: {tag}");
        }
        assert!(!page.contains(" onclick=") && !page.contains(" onload="));
        let asked = page.split(['"', '\'']).filter_map(|part| part.strip_prefix("assets/"));
        let asked: Vec<&str> = asked.collect();
        assert!(!asked.is_empty());
        for name in asked {
            assert!(ASSETS.iter().any(|file| file.name == name), "the page asks for assets/{name}");
        }
        assert!(!page.contains("http://") && !page.contains("https://"), "nothing comes from elsewhere");
    }

    #[test]
    fn every_module_and_style_of_the_folder_is_part_of_the_program() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboard");
        let names = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| !matches!(name.as_str(), "tests" | "index.html")).collect();
        names.sort();
        assert_eq!(names, ASSETS.iter().map(|file| file.name).collect::<Vec<_>>());
    }

    /// A module that is found only when another one was read costs the first view a round trip.
    #[test]
    fn the_page_names_every_module() {
        let page = std::str::from_utf8(PAGE.bytes).unwrap();
        for name in ASSETS.iter().map(|file| file.name).filter(|name| name.ends_with(".js") && *name != "app.js") {
            assert!(page.contains(&format!(r#"<link rel="modulepreload" href="assets/{name}">"#)), "{name}");
        }
    }
}
