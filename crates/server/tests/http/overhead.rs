//! What HTTP costs: the same requests through the scheduler alone and through the server, in turn.
//!
//!     cargo test --release -p tidemill-server --test http overhead -- --ignored --nocapture
//!
//! `TIDEMILL_LOAD_MODEL` names another model than the tiny one, `TIDEMILL_LOAD_TOKENS` (64) the mean
//! length of answers, `TIDEMILL_LOAD_REQUESTS` (64) the requests of a round, `TIDEMILL_LOAD_ROUNDS` (12) the
//! rounds.
//!
//! Answers are of many lengths, so that prompts come one by one as they do in service. Rounds are short, and each is compared with those of the scheduler alone right before and right after it, so
//! that what else the machine does meets both alike. The median of those comparisons is told, and their quartiles.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::common::client::send;
use crate::common::{Server, tiny, usual};
use engine::{Limits, Request, SamplerSettings, Scheduler, SchedulerSettings};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use tidemill_server::{Defaults, LoadError, LoadedModel, Loader, Loading};

const AT_ONCE: usize = 8;
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

/// The length of a request's answer: a half to one and a half of `mean`.
fn answer_len(mean: usize, request: usize) -> usize {
    mean / 2 + request * 37 % (mean + 1)
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
                max_tokens: Some(answer_len(tokens, next)),
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
                        "prompt": prompt(round, request), "max_tokens": answer_len(tokens, request), "temperature": 0,
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
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What a way costs beyond the scheduler alone in a round, in percent.
#[derive(Debug, Clone, Copy)]
struct Beyond {
    fewer: f64,
    dearer: f64,
}

impl Beyond {
    /// `around` are rounds of the scheduler alone, before and after.
    fn new(cost: Cost, around: [Cost; 2]) -> Self {
        let mean = |of: fn(&Cost) -> f64| (of(&around[0]) + of(&around[1])) / 2.0;
        let seconds = |cost: &Cost| 1.0 / cost.per_second;
        let processor = |cost: &Cost| cost.processor.as_secs_f64();
        Self {
            fewer: 100.0 * (1.0 - mean(seconds) / seconds(&cost)),
            dearer: 100.0 * (processor(&cost) / mean(processor) - 1.0),
        }
    }
}

/// The median, and the quartiles around it.
fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    let at = |part: f64| values[((values.len() - 1) as f64 * part).round() as usize];
    format!("{:+.1} % ({:+.1} to {:+.1})", at(0.5), at(0.25), at(0.75))
}

#[test]
#[ignore = "a measurement"]
fn http_costs_little() {
    let requests = number("TIDEMILL_LOAD_REQUESTS", 64);
    let tokens = number("TIDEMILL_LOAD_TOKENS", 64);
    let rounds = number("TIDEMILL_LOAD_ROUNDS", 12);
    let mut alone = load().scheduler;
    let server = Server::of(vec![tiny::offer(&["it"])], Model, usual());
    through_http(&server, 0, AT_ONCE, 4, true);
    let mut before = direct(&mut alone, 0, requests, tokens);
    let mut bare = vec![before];
    let (mut whole, mut streamed) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        for (stream, found) in [(false, &mut whole), (true, &mut streamed)] {
            let cost = through_http(&server, round, requests, tokens, stream);
            let after = direct(&mut alone, round, requests, tokens);
            found.push(Beyond::new(cost, [before, after]));
            bare.push(after);
            before = after;
        }
    }
    bare.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    let median = bare[bare.len() / 2];
    eprintln!(
        "{}, {rounds} rounds of {requests} requests, {AT_ONCE} at once, about {tokens} tokens each; alone {:.2} \
         requests/s, {:?} of processor time each. Beyond that:",
        path().display(),
        median.per_second,
        median.processor,
    );
    for (what, found) in [("whole", whole), ("streamed", streamed)] {
        let fewer = spread(found.iter().map(|beyond| beyond.fewer).collect());
        let dearer = spread(found.iter().map(|beyond| beyond.dearer).collect());
        eprintln!(
            "{what:>9}: {fewer} fewer requests a second, {dearer} more processor time, the clients' own among it"
        );
    }
}
