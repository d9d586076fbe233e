//! What HTTP costs: the same requests through the scheduler alone and through the server, in turn.
//!
//!     cargo test --release -p tidemill-server --test http overhead -- --ignored --nocapture
//!
//! `TIDEMILL_LOAD_MODEL` names another model than the tiny one, `TIDEMILL_LOAD_TOKENS` (64) the tokens
//! of each answer, `TIDEMILL_LOAD_REQUESTS` (64) the requests of a round.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::common::client::send;
use crate::common::{Server, tiny, usual};
use engine::{Limits, Request, SamplerSettings, Scheduler, SchedulerSettings};
use serde_json::json;
use tidemill_server::{Defaults, LoadError, LoadedModel, Loader, Loading};

const AT_ONCE: usize = 8;
const ROUNDS: usize = 5;
/// Tokens of a prompt.
const PROMPT: usize = 64;

fn number(name: &str, usual: usize) -> usize {
    let given = std::env::var(name).ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn path() -> PathBuf {
    std::env::var_os("TIDEMILL_LOAD_MODEL").map_or_else(tiny::path, PathBuf::from)
}

fn load() -> LoadedModel {
    let settings = SchedulerSettings::default();
    let shape = tiny::Shape {
        sequences: AT_ONCE,
        total_tokens: AT_ONCE * 1024,
    };
    tiny::load_from(
        &path(),
        "it",
        Defaults::default(),
        (settings, shape),
        &|_, _| {},
    )
    .unwrap()
}

struct Model;

impl Loader for Model {
    fn load(&self, _: usize, mut loading: Loading<'_>) -> Result<LoadedModel, LoadError> {
        loading.make_room()?;
        Ok(load())
    }
}

/// The prompt of a request: no two begin alike, so that nothing is cached.
fn prompt(round: usize, request: usize) -> Vec<u32> {
    let first = 20 + (round * 131 + request) as u32;
    (0..PROMPT as u32)
        .map(|at| 20 + (first * 7 + at * 13) % 400)
        .collect()
}

/// Requests a second, and the processor's time for each, through the scheduler alone.
fn direct(scheduler: &mut Scheduler, round: usize, requests: usize, tokens: usize) -> Cost {
    let before = Clock::now();
    let mut next = 0;
    let mut open = 0;
    while next < requests || open > 0 {
        while next < requests && open < AT_ONCE {
            let mut request = Request::new(prompt(round, next));
            request.sampling = SamplerSettings {
                ignore_eos: true,
                ..SamplerSettings::default()
            };
            request.limits = Limits {
                max_tokens: Some(tokens),
                ..Limits::default()
            };
            request.cache = false;
            scheduler.submit(request).unwrap();
            next += 1;
            open += 1;
        }
        let events = scheduler.step();
        let ended = |event: &&engine::Event| matches!(event, engine::Event::Finished { .. });
        open -= events.iter().filter(ended).count();
    }
    before.cost(requests)
}

/// The same through the server, whole or streamed, by as many clients as are answered at once.
fn through_http(
    server: &Server,
    round: usize,
    requests: usize,
    tokens: usize,
    stream: bool,
) -> Cost {
    let next = AtomicUsize::new(0);
    let before = Clock::now();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let request = next.fetch_add(1, Ordering::Relaxed);
                    if request >= requests {
                        return;
                    }
                    let body = json!({
                        "prompt": prompt(round, request), "max_tokens": tokens, "temperature": 0,
                        "ignore_eos": true, "cache_prompt": false, "stream": stream,
                    });
                    let body = body.to_string();
                    let path = "/v1/completions";
                    let reply = send(server.address, "POST", path, &[], body.as_bytes()).finish();
                    assert_eq!(reply.status, 200, "{}", reply.text());
                }
            });
        }
    });
    before.cost(requests)
}

#[derive(Debug, Clone, Copy)]
struct Cost {
    per_second: f64,
    processor: Duration,
}

struct Clock {
    wall: Instant,
    processor: Duration,
}

impl Clock {
    fn now() -> Self {
        Self {
            wall: Instant::now(),
            processor: processor_time(),
        }
    }

    fn cost(&self, requests: usize) -> Cost {
        Cost {
            per_second: requests as f64 / self.wall.elapsed().as_secs_f64(),
            processor: (processor_time() - self.processor) / requests as u32,
        }
    }
}

/// What all threads of this process have used so far.
fn processor_time() -> Duration {
    let tasks = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may hold anything: user and system time in hundredths of a second.
    let fields = tasks.rsplit(") ").next().unwrap_or_default();
    let ticks = fields.split(' ').skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn best(costs: &[Cost]) -> Cost {
    let per_second = costs.iter().map(|cost| cost.per_second).fold(0.0, f64::max);
    let processor = costs.iter().map(|cost| cost.processor).min();
    Cost {
        per_second,
        processor: processor.unwrap_or_default(),
    }
}

#[test]
#[ignore = "a measurement"]
fn http_costs_little() {
    let requests = number("TIDEMILL_LOAD_REQUESTS", 64);
    let tokens = number("TIDEMILL_LOAD_TOKENS", 64);
    let mut alone = load().scheduler;
    let server = Server::of(vec![tiny::offer(&["it"])], Model, usual());
    through_http(&server, 0, AT_ONCE, 4, true);
    let (mut bare, mut whole, mut streamed) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        bare.push(direct(&mut alone, round, requests, tokens));
        whole.push(through_http(&server, round, requests, tokens, false));
        streamed.push(through_http(&server, round, requests, tokens, true));
    }
    let bare = best(&bare);
    eprintln!(
        "{}, {requests} requests, {AT_ONCE} at once, {tokens} tokens each:",
        path().display()
    );
    for (what, cost) in [
        ("alone", bare),
        ("whole", best(&whole)),
        ("streamed", best(&streamed)),
    ] {
        let fewer = 100.0 * (1.0 - cost.per_second / bare.per_second);
        let dearer = 100.0 * (cost.processor.as_secs_f64() / bare.processor.as_secs_f64() - 1.0);
        eprintln!(
            "{what:>9}: {:7.2} requests/s ({fewer:+.1} % fewer), {:?} of processor time each \
             ({dearer:+.1} %, the clients' own among it)",
            cost.per_second, cost.processor,
        );
    }
}
