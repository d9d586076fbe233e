//! Many clients at once, of which some leave: `cargo test --release -p tidemill-server --test http load
//! -- --ignored --nocapture`, for as many seconds as `TIDEMILL_LOAD_SECONDS` says.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::common::Server;
use crate::common::client::{get, send};
use serde_json::json;

const CLIENTS: u64 = 64;

/// What a client saw.
#[derive(Debug, Default)]
struct Seen {
    answered: usize,
    left: usize,
    /// From a request to its first byte.
    first: Vec<Duration>,
}

/// One client's requests, until the time is up.
fn keep_asking(server: &Server, until: Instant, mut random: u64) -> Seen {
    let mut next = move |below: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) % below
    };
    let mut seen = Seen::default();
    while Instant::now() < until {
        let body = json!({
            "messages": [
                {"role": "system", "content": format!("You are helper {}.", next(4))},
                {"role": "user", "content": "word ".repeat(1 + next(60) as usize)},
            ],
            "stream": true, "temperature": 1.0, "seed": next(1000),
            "max_tokens": 1 + next(40), "ignore_eos": true,
        });
        let start = Instant::now();
        let path = "/v1/chat/completions";
        let mut stream = send(
            server.address,
            "POST",
            path,
            &[],
            body.to_string().as_bytes(),
        );
        assert_eq!(stream.status, 200);
        seen.first.push(start.elapsed());
        if next(4) == 0 {
            for _ in 0..next(8) {
                stream.piece();
            }
            seen.left += 1;
            continue;
        }
        let reply = stream.finish();
        let text = reply.text();
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        assert_eq!(
            text.matches("\"finish_reason\":\"length\"").count(),
            1,
            "{text}"
        );
        seen.answered += 1;
    }
    seen
}

#[test]
#[ignore = "takes as long as it is told"]
fn many_clients_are_answered_and_leave_nothing_behind() {
    let seconds = std::env::var("TIDEMILL_LOAD_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(20);
    let server = Server::start();
    let until = Instant::now() + Duration::from_secs(seconds);
    let all = Mutex::new(Seen::default());
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (server, all) = (&server, &all);
            scope.spawn(move || {
                let seen = keep_asking(server, until, client);
                let mut all = all.lock().unwrap();
                all.answered += seen.answered;
                all.left += seen.left;
                all.first.extend(seen.first);
            });
        }
    });
    server.wait_until_idle();
    let mut all = all.into_inner().unwrap();
    all.first.sort_unstable();
    let at = |share: f64| all.first[((all.first.len() - 1) as f64 * share) as usize];
    eprintln!(
        "{seconds} s, {CLIENTS} clients: {} answered, {} left; first byte after {:?} (median), {:?} (p99)",
        all.answered,
        all.left,
        at(0.5),
        at(0.99),
    );
    let page = get(server.address, "/metrics").text();
    for name in [
        "tidemill:pages_held",
        "tidemill:states_held",
        "tidemill:requests_failed_total",
    ] {
        let line = page
            .lines()
            .find(|line| line.starts_with(&format!("{name}{{")));
        assert!(line.unwrap().ends_with(" 0"), "{line:?}");
    }
}
