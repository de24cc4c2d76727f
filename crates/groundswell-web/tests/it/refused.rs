//! Whoever is refused gets to read why: also one that sends all of a large body before it reads, over a connection that is
//! kept or not, and one that sends what is not HTTP.

use std::time::{Duration, Instant};

use groundswell_web::limits::{DRAIN_BYTES, LINGER_BYTES, MAX_HEADERS};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::common::{Client, PATIENCE, Up, machine, node, within};

/// More than the buffers of two sockets on loopback hold.
const LARGE: usize = 12 * 1024 * 1024;

/// A refusal: the first lines of its request without those of the body, and the status.
struct Refusal {
    name: &'static str,
    head: String,
    status: u16,
}

fn refusals(up: &Up) -> Vec<Refusal> {
    let (host, token) = (up.http.addr, up.app.token());
    let with = |name, line: &str, host: &str, more: &str, status| Refusal {
        name,
        head: format!("{line} HTTP/1.1\r\nHost: {host}\r\n{more}"),
        status,
    };
    let (host, auth) = (host.to_string(), format!("Authorization: Bearer {token}\r\n"));
    let entry = "PUT /api/v1/machines/self/entry";
    vec![
        with("a misspelt field", &format!("{entry}?kay=k"), &host, &auth, 400),
        with("a key that is too long", &format!("{entry}?key={}", "k".repeat(1_025)), &host, &auth, 400),
        with("no token", &format!("{entry}?key=k"), &host, "", 401),
        with("another origin", &format!("{entry}?key=k"), &host, &format!("{auth}Origin: http://evil\r\n"), 403),
        with("an unknown address", "POST /api/v1/nothing", &host, &auth, 404),
        with("an unknown machine", "PUT /api/v1/machines/none/entry?key=k", &host, &auth, 404),
        with("another method", "POST /api/v1/node", &host, &auth, 405),
        with("the wrong role", "POST /api/v1/claims", &host, &auth, 409),
        with("a value that is too large", &format!("{entry}?key=k"), &host, &auth, 413),
        with("another host", &format!("{entry}?key=k"), "example.org", &auth, 421),
        // What is answered without a look at the body, too.
        with("a body that nobody wants", "DELETE /api/v1/machines/self/entry?key=none", &host, &auth, 200),
        with("a page", "GET /", &host, "", 200),
    ]
}

/// A body as it is on the wire, with its lines of the head.
fn body(chunked: bool, bytes: usize) -> (String, Vec<u8>) {
    if !chunked {
        return (format!("Content-Length: {bytes}\r\n"), vec![b'v'; bytes]);
    }
    let chunk = [b"10000\r\n".as_slice(), &[b'v'; 0x10000], b"\r\n"].concat();
    let mut wire = chunk.repeat(bytes / 0x10000);
    wire.extend_from_slice(b"0\r\n\r\n");
    ("Transfer-Encoding: chunked\r\n".to_owned(), wire)
}

/// One answer: its status, its head, and its body.
async fn answer(stream: &mut TcpStream) -> Result<(u16, String, Vec<u8>), String> {
    let reading = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.map_err(|error| format!("{error} after {} bytes", head.len()))?);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        stream.read_exact(&mut body).await.map_err(|error| error.to_string())?;
        Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), head, body))
    };
    timeout(PATIENCE, reading).await.map_err(|_| "waited in vain for an answer".to_owned())?
}

async fn connect(http: &Client) -> TcpStream {
    let stream = TcpStream::connect(http.addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

#[track_caller]
fn is_a_problem(status: u16, body: &[u8], what: &str) {
    if status >= 400 {
        let problem: Value = serde_json::from_slice(body).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(problem["status"], status, "{what}");
    }
}

/// As Python's and many others do: the whole request, and then the answer. After it the connection serves the next.
#[tokio::test(flavor = "multi_thread")]
async fn who_sends_all_before_it_reads_gets_the_answer_and_the_next_one() {
    let up = machine().await;
    let next = format!(
        "GET /api/v1/node HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
        up.http.addr,
        up.app.token()
    );
    for refusal in refusals(&up) {
        for chunked in [false, true] {
            for pipelined in [false, true] {
                let what = format!("{}, chunked: {chunked}, pipelined: {pipelined}", refusal.name);
                let (lines, wire) = body(chunked, LARGE);
                let mut stream = connect(&up.http).await;
                let mut request = [refusal.head.as_bytes(), lines.as_bytes(), b"\r\n", &wire].concat();
                if pipelined {
                    request.extend_from_slice(next.as_bytes());
                }
                within(&what, stream.write_all(&request)).await.unwrap_or_else(|error| panic!("{what}: {error}"));
                let (status, head, body) = answer(&mut stream).await.unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(status, refusal.status, "{what}: {head}");
                is_a_problem(status, &body, &what);
                assert!(!head.contains("connection: close"), "{what}: {head}");
                if !pipelined {
                    stream.write_all(next.as_bytes()).await.unwrap();
                }
                let (status, ..) = answer(&mut stream).await.unwrap_or_else(|error| panic!("{what}, next: {error}"));
                assert_eq!(status, 200, "{what}");
            }
        }
    }
    up.stop().await;
}

/// Beyond what is read before the answer, and where the body comes slowly, the answer comes first and the rest is read
/// after it: the status is seen, and the connection is said to end.
#[tokio::test(flavor = "multi_thread")]
async fn more_than_is_read_before_the_answer_loses_no_answer() {
    let up = machine().await;
    for refusal in refusals(&up) {
        let what = refusal.name;
        let (lines, wire) = body(false, DRAIN_BYTES + 8 * 1024 * 1024);
        assert!(wire.len() < LINGER_BYTES);
        let mut stream = connect(&up.http).await;
        let request = [refusal.head.as_bytes(), lines.as_bytes(), b"\r\n", &wire].concat();
        within(what, stream.write_all(&request)).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let (status, head, body) = answer(&mut stream).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(status, refusal.status, "{what}: {head}");
        is_a_problem(status, &body, what);
        assert!(head.contains("connection: close"), "{what}: {head}");
    }
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_that_nobody_wants_holds_up_no_answer() {
    let up = machine().await;
    for refusal in refusals(&up).into_iter().filter(|refusal| refusal.status < 413 && refusal.status >= 400) {
        let (what, begun) = (refusal.name, Instant::now());
        let mut stream = connect(&up.http).await;
        let head = format!("{}Content-Length: 1000\r\n\r\n", refusal.head);
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(b"v").await.unwrap();
        let (status, head, body) = answer(&mut stream).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(status, refusal.status, "{what}: {head}");
        is_a_problem(status, &body, what);
        assert!(head.contains("connection: close"), "{what}: {head}");
        assert!(begun.elapsed() < Duration::from_secs(25), "{what}: before the body is given up");
        // What still comes meets nobody, and no reset.
        stream.write_all(b"v").await.unwrap();
        let mut rest = Vec::new();
        within(what, stream.read_to_end(&mut rest)).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    up.stop().await;
}

/// Who waits to be told to send its body is told why it need not.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_with_its_body_is_answered_at_once() {
    let up = machine().await;
    let large = format!("Content-Length: {LARGE}\r\nExpect: 100-continue\r\n\r\n");
    for refusal in refusals(&up) {
        let what = refusal.name;
        let mut stream = connect(&up.http).await;
        stream.write_all(format!("{}{large}", refusal.head).as_bytes()).await.unwrap();
        let (status, head, body) = answer(&mut stream).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(status, refusal.status, "{what}: {head}");
        is_a_problem(status, &body, what);
    }
    // And who is not refused is told to go on.
    let mut stream = connect(&up.http).await;
    let (host, token) = (up.http.addr, up.app.token());
    let head = format!(
        "PUT /api/v1/machines/self/entry?key=k HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(answer(&mut stream).await.unwrap().0, 100);
    stream.write_all(b"v").await.unwrap();
    assert_eq!(answer(&mut stream).await.unwrap().0, 200);
    up.stop().await;
}

/// hyper refuses these before any of our code sees them, without a word.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_http_gets_a_problem_too() {
    let up = node().await;
    let (host, token) = (up.http.addr, up.app.token());
    let with =
        |line: &str, more: &str| format!("{line}\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{more}\r\n");
    let lines = (0..=MAX_HEADERS).map(|line| format!("X-{line}: 1\r\n")).collect::<String>();
    let cases = [
        (with("GET /api/v1/node?a<b HTTP/1.1", ""), 400),
        (with("GET /api/v1/node?a b HTTP/1.1", ""), 400),
        (with("GET /api/v1/<node> HTTP/1.1", ""), 400),
        (with("GET /api/v1/node HTTP/9.9", ""), 400),
        (with("G@T /api/v1/node HTTP/1.1", ""), 400),
        (with("GET /api/v1/node HTTP/1.1", "no colon\r\n"), 400),
        (with("GET /api/v1/node HTTP/1.1", "A: \u{1}\r\n"), 400),
        (with("GET /api/v1/node HTTP/1.1", "Content-Length: x\r\n"), 400),
        ("\u{16}\u{3}\u{1}\u{2} is TLS\r\n\r\n".to_owned(), 400),
        (with("GET /api/v1/node HTTP/1.1", &lines), 431),
        (with("GET /api/v1/node HTTP/1.1", &format!("A: {}\r\n", "a".repeat(200_000))), 431),
    ];
    for (request, status) in cases {
        let what = format!("{:?}", request.chars().take(60).collect::<String>());
        // Also on a connection that has served another, and behind a body.
        for before in [String::new(), with("GET /api/v1/node HTTP/1.1", "")] {
            let mut stream = connect(&up.http).await;
            if !before.is_empty() {
                stream.write_all(before.as_bytes()).await.unwrap();
                assert_eq!(answer(&mut stream).await.unwrap().0, 200);
            }
            within(&what, stream.write_all(request.as_bytes())).await.unwrap();
            let (got, head, body) = answer(&mut stream).await.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(got, status, "{what}: {head}");
            assert!(head.contains("content-type: application/problem+json"), "{what}: {head}");
            is_a_problem(got, &body, &what);
            let mut rest = Vec::new();
            within(&what, stream.read_to_end(&mut rest)).await.unwrap();
            assert!(rest.is_empty(), "{what}");
        }
    }
    up.stop().await;
}

/// A value that looks like such an answer is a value.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_looks_like_an_answer_is_left_alone() {
    let up = machine().await;
    let value = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".repeat(20_000);
    up.http.put("/api/v1/machines/self/entry?key=k", value.clone()).await.well();
    for _ in 0..5 {
        assert_eq!(up.http.get("/api/v1/machines/self/entry?key=k").await.text(), value);
    }
    up.stop().await;
}
