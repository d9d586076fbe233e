//! Many clients at once, of which some leave: `cargo test --release -p tidemill-server --test http load
//! -- --ignored --nocapture`, for as many seconds as `TIDEMILL_LOAD_SECONDS` says.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::common::client::{get, send};
use crate::common::tiny::{Shape, Tiny, offer};
use crate::common::{CONTEXT, Server, usual};
use engine::SchedulerSettings;
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

/// What a process holds of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holds {
    files: usize,
    threads: usize,
    resident_mib: usize,
}

impl Holds {
    fn now() -> Self {
        let count = |folder: &str| std::fs::read_dir(folder).map_or(0, Iterator::count);
        let memory = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = memory
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<usize>().ok());
        Self {
            files: count("/proc/self/fd"),
            threads: count("/proc/self/task"),
            resident_mib: pages.unwrap_or_default() / 256,
        }
    }
}

/// Lets all clients ask until the time is up.
fn run(server: &Server, time: Duration) -> Seen {
    let until = Instant::now() + time;
    let all = Mutex::new(Seen::default());
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let all = &all;
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
    all
}

/// The bound below which this share of a histogram's values lies.
fn share_below(page: &str, name: &str, share: f64) -> f64 {
    let buckets = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(&format!("{name}_bucket{{"))?;
        let (labels, count) = rest.rsplit_once("} ")?;
        let bound = labels.rsplit("le=\"").next()?.trim_end_matches('"');
        Some((
            bound.parse().unwrap_or(f64::INFINITY),
            count.parse::<f64>().ok()?,
        ))
    });
    let buckets: Vec<(f64, f64)> = buckets.collect();
    let all = buckets.last().unwrap().1;
    let found = buckets.iter().find(|(_, count)| *count >= share * all);
    found.unwrap().0
}

#[test]
#[ignore = "takes as long as it is told"]
fn many_clients_are_answered_and_leave_nothing_behind() {
    let seconds = std::env::var("TIDEMILL_LOAD_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(20);
    // As many places as clients: what a request waits for is the scheduler, not its turn.
    let shape = Shape {
        sequences: CLIENTS as usize,
        total_tokens: 8 * CONTEXT,
    };
    let loader = Tiny(SchedulerSettings::default(), shape);
    let server = Server::of(vec![offer(&["tiny"])], loader, usual());
    run(&server, Duration::from_secs(3));
    let before = Holds::now();
    let all = run(&server, Duration::from_secs(seconds));
    // Threads that were started for short work end after ten seconds without any.
    let mut after = Holds::now();
    for _ in 0..60 {
        if after.threads <= before.threads && after.files <= before.files {
            break;
        }
        std::thread::sleep(Duration::from_millis(500));
        after = Holds::now();
    }
    let page = get(server.address, "/metrics").text();
    let at = |share: f64| all.first[((all.first.len() - 1) as f64 * share) as usize];
    eprintln!(
        "{seconds} s, {CLIENTS} clients: {} answered, {} left; first byte after {:?} (median), {:?} (p99)",
        all.answered,
        all.left,
        at(0.5),
        at(0.99),
    );
    for (name, what) in [
        ("vllm:request_queue_time_seconds", "taken to started"),
        ("vllm:time_to_first_token_seconds", "taken to first token"),
        ("vllm:inter_token_latency_seconds", "between tokens"),
    ] {
        let (half, most) = (
            share_below(&page, name, 0.5),
            share_below(&page, name, 0.99),
        );
        eprintln!("{what}: median below {half} s, p99 below {most} s");
    }
    eprintln!("before: {before:?}\nafter:  {after:?}");
    assert!(after.files <= before.files, "files");
    assert!(after.threads <= before.threads, "threads");
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
