//! Takes a road: prompts in, answers out, and a check that the road went where it says.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidemill_engine::cache::disk::{DiskSettings, DiskTier};
use tidemill_engine::cache::{Boundary, BoundaryKind, CacheSettings};
use tidemill_engine::sampling::{Logprobs, LogprobsOf};
use tidemill_engine::speculate::{
    Depth, DraftCounts, DraftModel, Oracle, Speculation, SpeculationSettings,
};
use tidemill_engine::{
    DraftVocabulary, EngineSettings, Event, KvTypes, Miss, Request, RequestId, ReusedFrom,
    Scheduler, SchedulerSettings,
};

use crate::road::{Detour, Drafts, Road};
use crate::subject::Subject;

/// The most tokens of an answer.
pub(crate) const ANSWER: usize = 24;
/// Prompts that are read and then asked, where there is too little memory for what was read.
const GROUP: usize = 16;
/// What a draft model sees: all of short prompts, and too little of long ones to be always right.
const DRAFT_WINDOW: usize = 64;

/// A prompt's answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) tokens: Vec<u32>,
    /// For each token, how much its logit was above the second one; where they were asked for.
    pub(crate) margins: Vec<f32>,
}

/// What came of a road.
pub(crate) struct Outcome {
    pub(crate) answers: Vec<Answer>,
    pub(crate) drafts: DraftCounts,
    /// Answers that have to be those of the plain road: with those that had to equal these.
    pub(crate) compared: usize,
}

/// Takes a road with all of a subject's prompts. `known` are the answers, for drafts to be
/// prescribed where the model's own are worth nothing.
pub(crate) fn take(subject: &Subject, road: Road, known: &[Answer]) -> Outcome {
    let disk = tempfile::tempdir().unwrap();
    let folder = (road.detour == Detour::Disk).then_some(disk.path());
    let mut traveller = Traveller::start(subject, road, known, folder);
    let prompts: Vec<usize> = (0..subject.prompts.len()).collect();
    match road.detour {
        Detour::Plain | Detour::Fork | Detour::Paused => traveller.ask(&prompts),
        Detour::Memory => {
            traveller.read(&prompts);
            traveller.ask(&prompts);
        }
        Detour::Disk => {
            traveller.read(&prompts);
            drop(traveller);
            traveller = Traveller::start(subject, road, known, folder);
            traveller.ask(&prompts);
        }
        Detour::Evicted => {
            for group in prompts.chunks(GROUP) {
                traveller.read(group);
                // The last ones were not evicted yet.
                let reversed: Vec<usize> = group.iter().rev().copied().collect();
                traveller.ask(&reversed);
            }
        }
    }
    traveller.arrive()
}

/// Whether a prompt's answer is sampled; the others are greedy.
pub(crate) fn is_sampled(index: usize) -> bool {
    index % 4 == 3
}

/// Asks without drafts and caches, and tells the margins too.
pub(crate) fn judge(subject: &Subject, road: Road) -> Vec<Answer> {
    let mut traveller = Traveller::start(subject, road, &[], None);
    traveller.with_margins = true;
    traveller.ask(&(0..subject.prompts.len()).collect::<Vec<_>>());
    traveller.arrive().answers
}

struct Traveller<'a> {
    subject: &'a Subject,
    road: Road,
    scheduler: Scheduler,
    with_margins: bool,
    asked: BTreeMap<RequestId, usize>,
    answers: Vec<Answer>,
    seconds: Vec<Answer>,
    /// Prompts that went on from memory and from disk.
    reused: [usize; 2],
    evicted: usize,
    most_running: usize,
}

/// How much of a prompt is read before it is asked: all of every second one.
fn beginning(index: usize, prompt: &[u32]) -> &[u32] {
    match index % 2 {
        0 => prompt,
        _ => &prompt[..prompt.len() - prompt.len() / 3],
    }
}

fn request(prompt: &[u32], most: usize) -> Request {
    let mut request = Request::new(prompt.to_vec());
    request.limits.max_tokens = Some(most);
    request.boundaries = vec![Boundary {
        offset: prompt.len() - 1,
        kind: BoundaryKind::EndOfMessage(0),
    }];
    request
}

impl<'a> Traveller<'a> {
    fn start(subject: &'a Subject, road: Road, known: &[Answer], folder: Option<&Path>) -> Self {
        let opened = &subject.opened;
        let longest = subject.prompts.iter().map(Vec::len).max().unwrap();
        let context = longest + ANSWER + 1;
        let in_memory = match road.detour {
            // All prompts stay there.
            Detour::Memory | Detour::Disk => subject.prompts.len(),
            Detour::Evicted => GROUP,
            Detour::Plain | Detour::Paused => road.together,
            Detour::Fork => 2 * road.together,
        };
        let settings = EngineSettings {
            context,
            // Each entry has a last page of its own.
            total_tokens: in_memory * (context + 4 * 64),
            sequences: road.together,
            kv: KvTypes::both(road.kv),
        };
        let backend = (subject.on)(road.threads);
        let numerics = backend.numerics();
        let engine = opened.load(backend.clone(), &settings, |_, _| {}).unwrap();
        let drafter = speculation(road.drafts).map(|speculation| {
            // A clock that makes drafts look good and then bad, so that depths change.
            let mut now = 0u64;
            let clock = Box::new(move || {
                now += 1 + now / 3 % 5;
                Duration::from_micros(now)
            });
            let hidden_size = opened.config.hidden_size;
            let drafter = Speculation::new(&engine, hidden_size, speculation, clock);
            match (subject.is_random, road.drafts) {
                (_, Drafts::Model) => {
                    let settings = DraftModel::engine_settings(&settings);
                    let own = opened.load(backend, &settings, |_, _| {}).unwrap();
                    let model = DraftModel::new(own, opened.config.vocab_size);
                    drafter.with_model(model.with_window(DRAFT_WINDOW))
                }
                (true, Drafts::Head(_) | Drafts::Adaptive) => {
                    drafter.with_oracle(oracle(subject, known), DraftVocabulary::Whole)
                }
                _ => drafter,
            }
        });
        let rows = (opened.config.vocab_size + opened.config.hidden_size) * size_of::<f32>();
        let snapshot_bytes = match road.detour {
            Detour::Plain | Detour::Fork | Detour::Paused => 0,
            Detour::Memory | Detour::Disk => 1 << 30,
            // Each prompt of a group has two, of which one would do.
            Detour::Evicted => GROUP / 2 * (engine.state_bytes() + rows),
        };
        let scheduling = SchedulerSettings {
            chunk_tokens: road.chunk,
            cache: CacheSettings {
                snapshot_bytes,
                gap: 16,
                ..CacheSettings::default()
            },
            ..SchedulerSettings::default()
        };
        let mut scheduler = Scheduler::new(engine, Arc::clone(&subject.rules), scheduling);
        if let Some(drafter) = drafter {
            scheduler = scheduler.with_drafter(Box::new(drafter));
        }
        if let Some(folder) = folder {
            let folder = folder.to_owned();
            let disk = DiskSettings::new(folder, 1 << 30, opened, &settings, &numerics).unwrap();
            scheduler = scheduler.with_tier(Box::new(DiskTier::open(&disk).unwrap()));
        }
        let none = vec![Answer::default(); subject.prompts.len()];
        Self {
            subject,
            road,
            scheduler,
            with_margins: false,
            asked: BTreeMap::new(),
            answers: none.clone(),
            seconds: none,
            reused: [0; 2],
            evicted: 0,
            most_running: 0,
        }
    }

    /// Reads prompts, or most of them, so that they are cached.
    fn read(&mut self, prompts: &[usize]) {
        for &index in prompts {
            let beginning = beginning(index, &self.subject.prompts[index]);
            self.scheduler.submit(request(beginning, 1)).unwrap();
        }
        self.run();
    }

    /// Asks prompts and notes the answers.
    fn ask(&mut self, prompts: &[usize]) {
        for (at, &index) in prompts.iter().enumerate() {
            let mut request = request(&self.subject.prompts[index], ANSWER);
            if is_sampled(index) {
                request.sampling.temperature = 0.9;
                request.sampling.seed = index as u64;
            }
            if self.with_margins {
                let of = LogprobsOf::Model;
                request.sampling.logprobs = Some(Logprobs { top: 2, of });
            }
            match self.road.detour {
                Detour::Fork => request.choices = 2,
                Detour::Paused => {
                    // As many as can run have begun when more urgent ones come, and no answer is
                    // over but one of a single token.
                    request.priority = (at / self.road.together) as i32;
                    if at % self.road.together == 0 {
                        self.step();
                    }
                }
                _ => {}
            }
            let id = self.scheduler.submit(request).unwrap();
            self.asked.insert(id, index);
        }
        self.run();
    }

    fn run(&mut self) {
        while !self.scheduler.is_idle() {
            self.step();
        }
        self.scheduler.assert_consistent();
    }

    fn step(&mut self) {
        let events = self.scheduler.step();
        let memory = self.scheduler.memory();
        let running = memory.states - memory.free_states;
        self.most_running = self.most_running.max(running);
        for event in events {
            match event {
                Event::Token {
                    request,
                    choice,
                    token,
                    logprobs,
                    ..
                } => {
                    let Some(&index) = self.asked.get(&request) else {
                        continue;
                    };
                    let answers = [&mut self.answers, &mut self.seconds];
                    let answer = &mut answers.into_iter().nth(choice).unwrap()[index];
                    answer.tokens.push(token);
                    if let Some(told) = logprobs {
                        answer.margins.push(told.top[0].1 - told.top[1].1);
                    }
                }
                Event::Started { request, reuse } if self.asked.contains_key(&request) => {
                    match reuse.from {
                        ReusedFrom::Nowhere => {}
                        ReusedFrom::Memory => self.reused[0] += 1,
                        ReusedFrom::Tier => self.reused[1] += 1,
                    }
                    self.evicted += usize::from(matches!(reuse.rest, Miss::Evicted { .. }));
                }
                Event::Failed { error, .. } => panic!("{error}"),
                _ => {}
            }
        }
    }

    /// Checks that the road went where it says, and that nothing is left behind.
    fn arrive(mut self) -> Outcome {
        let (road, prompts) = (self.road, self.subject.prompts.len());
        let metrics = self.scheduler.metrics();
        match road.detour {
            Detour::Plain => {
                assert_eq!(self.reused, [0, 0], "{road:?}");
                assert_eq!(self.most_running, road.together.min(prompts), "{road:?}");
            }
            Detour::Memory => assert_eq!(self.reused, [prompts, 0], "{road:?}"),
            // Where prompts begin alike, one may have brought what the other needs.
            Detour::Disk => assert!(
                self.reused[0] + self.reused[1] == prompts && 2 * self.reused[1] > prompts,
                "{road:?}: {:?}",
                self.reused
            ),
            Detour::Evicted => assert!(
                self.reused[0] > 0 && self.evicted > 0 && metrics.evicted > 0,
                "{road:?}: {:?} reused, {} evicted",
                self.reused,
                self.evicted
            ),
            Detour::Fork => {
                // Sampled ones have random numbers of their own.
                for index in 0..prompts {
                    let same = self.answers[index] == self.seconds[index];
                    assert!(same || is_sampled(index), "{road:?}, prompt {index}");
                    assert!(!self.seconds[index].tokens.is_empty(), "{road:?}");
                }
            }
            Detour::Paused => assert!(metrics.paused > 0, "{road:?}: {metrics:?}"),
        }
        let forks = (0..prompts).filter(|&index| !is_sampled(index)).count();
        let compared = prompts
            + if road.detour == Detour::Fork {
                forks
            } else {
                0
            };
        self.scheduler.clear_cache();
        let memory = self.scheduler.memory();
        assert_eq!(memory.free_pages, memory.pages, "{road:?}");
        assert_eq!(memory.free_states, memory.states, "{road:?}");
        Outcome {
            answers: self.answers,
            drafts: self.scheduler.drafts(),
            compared,
        }
    }
}

fn speculation(drafts: Drafts) -> Option<SpeculationSettings> {
    let (head, lookup, most, depth) = match drafts {
        Drafts::Off => return None,
        Drafts::Head(most) => (true, false, most, Depth::Full),
        Drafts::Model => (false, false, 3, Depth::Full),
        Drafts::Lookup => (false, true, 4, Depth::Full),
        Drafts::Adaptive => (true, true, 4, Depth::Adaptive),
    };
    Some(SpeculationSettings {
        head,
        lookup,
        most,
        depth,
    })
}

/// Drafts the known answers, with a mistake here and there, so that every number of drafts is
/// accepted.
fn oracle(subject: &Subject, known: &[Answer]) -> Oracle {
    let whole: Vec<(usize, Vec<u32>)> = subject
        .prompts
        .iter()
        .zip(known)
        .map(|(prompt, answer)| (prompt.len(), [&prompt[..], &answer.tokens].concat()))
        .collect();
    let vocabulary = subject.opened.config.vocab_size as u32;
    Box::new(move |tokens, most| {
        let goes_on = |&&(prompt, ref whole): &&(usize, Vec<u32>)| {
            prompt < tokens.len() && whole.starts_with(tokens)
        };
        let Some((_, whole)) = whole.iter().find(goes_on) else {
            return Vec::new();
        };
        let rest = whole[tokens.len()..].iter().take(most).enumerate();
        rest.map(|(at, &token)| match (tokens.len() * 7 + at * 3) % 5 {
            0 => (token + 1) % vocabulary,
            _ => token,
        })
        .collect()
    })
}
