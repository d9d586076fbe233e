//! `/metrics`: figures as Prometheus reads them, under the names that the Kubernetes inference
//! gateway and common dashboards know, and our own beside them.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use engine::scheduler::Phase;

use crate::app::App;
use crate::error::{ApiError, ErrorKind};
use crate::models::Place;
use crate::worker::{Figures, Histogram, Latencies};

/// `/metrics`
///
/// # Errors
/// When the server was started without it.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    if !app.config().metrics {
        let why = "this server was started with --no-metrics";
        return Err(ApiError::new(ErrorKind::NotFound, why));
    }
    let mut page = Page::default();
    for (model, offer) in app.models().offers().iter().enumerate() {
        let name = offer.profiles.first().map_or("", |named| &named.name);
        let place = Place { model, profile: 0 };
        let (figures, latencies) = match app.models().running(place) {
            Some((_, worker)) => {
                let board = worker.board();
                (board.figures(), board.latencies_so_far())
            }
            None => Default::default(),
        };
        page.add(name, &figures, &latencies);
        let is_loaded = app.models().status(model).progress();
        let help = "How much of the model is loaded, from 0 to 1";
        page.gauge("tidemill:model_loaded", help, is_loaded);
    }
    let text = page.text();
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(CONTENT_TYPE, kind)], text).into_response())
}

fn requests(page: &mut Page, figures: &Figures) {
    let in_phase = |phase: Phase| figures.answers.iter().filter(|a| a.phase == phase).count();
    let waiting = in_phase(Phase::Waiting);
    let paused = in_phase(Phase::Paused);
    let running = figures.answers.len() - waiting - paused;
    page.gauge(
        "vllm:num_requests_running",
        "Answers in the making",
        running as f64,
    );
    page.gauge(
        "vllm:num_requests_waiting",
        "Requests that wait for their turn, or made room for others",
        (waiting + paused) as f64,
    );
    let metrics = &figures.metrics;
    for (name, help, value) in [
        (
            "vllm:num_preemptions_total",
            "Answers that made room for others",
            metrics.paused,
        ),
        (
            "tidemill:requests_submitted_total",
            "Requests taken",
            metrics.submitted,
        ),
        (
            "tidemill:requests_finished_total",
            "Requests answered",
            metrics.finished,
        ),
        (
            "tidemill:requests_cancelled_total",
            "Requests cancelled",
            metrics.cancelled,
        ),
        (
            "tidemill:requests_failed_total",
            "Requests that failed",
            metrics.failed,
        ),
        ("tidemill:steps_total", "Steps of the engine", metrics.steps),
        (
            "tidemill:steps_failed_total",
            "Steps that failed",
            metrics.failed_steps,
        ),
    ] {
        page.counter(name, help, value);
    }
}

fn memory(page: &mut Page, figures: &Figures) {
    let memory = &figures.memory;
    // Pages of cached prompts are free when they are needed.
    let free = memory.free_pages + memory.cached_pages;
    let held = memory.pages.saturating_sub(free);
    let share = held as f64 / memory.pages.max(1) as f64;
    let help = "The share of key/value memory that answers hold";
    page.gauge("vllm:kv_cache_usage_perc", help, share);
    page.gauge("vllm:gpu_cache_usage_perc", help, share);
    let labels = format!(
        "block_size=\"{}\",num_gpu_blocks=\"{}\",enable_prefix_caching=\"True\"",
        figures.page_tokens, memory.pages
    );
    page.head(
        "vllm:cache_config_info",
        "How memory is cut into pages",
        "gauge",
    );
    page.sample("vllm:cache_config_info", &labels, 1.0);
    for (name, help, value) in [
        ("tidemill:pages", "Pages of key/value memory", memory.pages),
        ("tidemill:pages_held", "Pages that answers hold", held),
        (
            "tidemill:pages_cached",
            "Pages that only cached prompts hold",
            memory.cached_pages,
        ),
        (
            "tidemill:states",
            "Places for recurrent states",
            memory.states,
        ),
        (
            "tidemill:states_held",
            "Recurrent states that answers hold",
            memory.states.saturating_sub(memory.free_states),
        ),
        (
            "tidemill:cache_entries",
            "Cached prompts",
            memory.cache_entries,
        ),
        (
            "tidemill:cache_bytes",
            "RAM of their states",
            memory.cache_bytes,
        ),
        (
            "tidemill:parked_bytes",
            "RAM of answers that made room",
            memory.parked_bytes,
        ),
    ] {
        page.gauge(name, help, value as f64);
    }
}

/// Copies of experts that are in RAM, where GPUs keep any.
fn experts(page: &mut Page, figures: &Figures) {
    let Some(counts) = figures.experts else {
        return;
    };
    for (name, help, value) in [
        (
            "tidemill:expert_hits_total",
            "Choices of experts in RAM that a GPU had a copy of",
            counts.hits,
        ),
        (
            "tidemill:expert_misses_total",
            "Choices of experts in RAM that the CPU computed",
            counts.misses,
        ),
        (
            "tidemill:experts_brought_total",
            "Copies of experts that were brought to GPUs to be kept",
            counts.brought,
        ),
        (
            "tidemill:experts_replaced_total",
            "Copies that others took the place of",
            counts.replaced,
        ),
    ] {
        page.counter(name, help, value);
    }
}

fn tokens(page: &mut Page, figures: &Figures) {
    let (metrics, drafts) = (&figures.metrics, &figures.drafts);
    for (name, help, value) in [
        (
            "vllm:prompt_tokens_total",
            "Tokens of prompts",
            metrics.prompt_tokens,
        ),
        (
            "vllm:generation_tokens_total",
            "Tokens of answers",
            metrics.generated,
        ),
        (
            "vllm:prefix_cache_queries_total",
            "Tokens of prompts that were looked for in the cache",
            metrics.prompt_tokens,
        ),
        (
            "vllm:prefix_cache_hits_total",
            "Tokens of prompts that were found there",
            metrics.cached_tokens,
        ),
        (
            "vllm:spec_decode_num_draft_tokens_total",
            "Tokens drafted",
            drafts.drafted,
        ),
        (
            "vllm:spec_decode_num_accepted_tokens_total",
            "Drafts accepted",
            drafts.accepted,
        ),
        (
            "tidemill:prefill_rows_total",
            "Rows run to read prompts",
            metrics.prefill_rows,
        ),
        (
            "tidemill:decode_rows_total",
            "Rows run to answer, drafts included",
            metrics.decode_rows,
        ),
        (
            "tidemill:states_kept_total",
            "States put into the cache",
            metrics.kept,
        ),
        (
            "tidemill:states_evicted_total",
            "States that had to leave it",
            metrics.evicted,
        ),
    ] {
        page.counter(name, help, value);
    }
}

fn times(page: &mut Page, latencies: &Latencies) {
    for (name, help, histogram) in [
        (
            "vllm:time_to_first_token_seconds",
            "From a request to its first token",
            &latencies.first_token,
        ),
        (
            "vllm:inter_token_latency_seconds",
            "Between two tokens of an answer",
            &latencies.between_tokens,
        ),
        (
            "vllm:time_per_output_token_seconds",
            "Between two tokens of an answer",
            &latencies.between_tokens,
        ),
        (
            "vllm:e2e_request_latency_seconds",
            "From a request to its end",
            &latencies.whole,
        ),
        (
            "vllm:request_queue_time_seconds",
            "From a request to its start",
            &latencies.queue,
        ),
        (
            "vllm:request_prompt_tokens",
            "Tokens of prompts",
            &latencies.prompt_tokens,
        ),
        (
            "vllm:request_generation_tokens",
            "Tokens of answers",
            &latencies.answer_tokens,
        ),
    ] {
        page.histogram(name, help, histogram);
    }
}

/// The page while it is written: what all models tell under one name stands together.
#[derive(Default)]
struct Page {
    /// The name of the model that is being told of, as a label's value.
    model: String,
    families: Vec<Family>,
    /// The number of the one that is being written to.
    current: usize,
}

/// Samples of one name.
struct Family {
    name: String,
    head: String,
    samples: String,
}

impl Page {
    /// Adds the figures of the model of this name.
    fn add(&mut self, model: &str, figures: &Figures, latencies: &Latencies) {
        self.model = escaped(model);
        requests(self, figures);
        memory(self, figures);
        experts(self, figures);
        tokens(self, figures);
        times(self, latencies);
    }

    fn text(&self) -> String {
        let families = self.families.iter();
        families
            .flat_map(|family| [family.head.as_str(), family.samples.as_str()])
            .collect()
    }

    /// Goes on with samples of this name.
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let found = self.families.iter().position(|family| family.name == name);
        self.current = found.unwrap_or_else(|| {
            self.families.push(Family {
                name: name.to_owned(),
                head: format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"),
                samples: String::new(),
            });
            self.families.len() - 1
        });
    }

    fn sample(&mut self, name: &str, labels: &str, value: f64) {
        let comma = if labels.is_empty() { "" } else { "," };
        let model = &self.model;
        if let Some(family) = self.families.get_mut(self.current) {
            // Writing to text cannot fail.
            let _ = writeln!(
                family.samples,
                "{name}{{model_name=\"{model}\"{comma}{labels}}} {value}"
            );
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, help, "gauge");
        self.sample(name, "", value);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "counter");
        self.sample(name, "", value as f64);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, help, "histogram");
        let bucket = format!("{name}_bucket");
        for (bound, count) in histogram.cumulative() {
            self.sample(&bucket, &format!("le=\"{bound}\""), count as f64);
        }
        self.sample(&bucket, "le=\"+Inf\"", histogram.count() as f64);
        self.sample(&format!("{name}_sum"), "", histogram.sum());
        self.sample(&format!("{name}_count"), "", histogram.count() as f64);
    }
}

fn escaped(label: &str) -> String {
    label
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_scrapers_expect() {
        let mut latencies = Latencies::default();
        latencies.first_token.observe(0.03);
        let mut page = Page::default();
        page.add("a \"b\"", &Figures::default(), &latencies);
        let figures = Figures {
            experts: Some(engine::ExpertCounts {
                hits: 7,
                ..engine::ExpertCounts::default()
            }),
            ..Figures::default()
        };
        page.add("c", &figures, &Latencies::default());
        let text = page.text();
        let heads = text
            .matches("# TYPE vllm:num_requests_running gauge")
            .count();
        assert_eq!(heads, 1, "{text}");
        let model = "model_name=\"a \\\"b\\\"\"";
        for line in [
            format!("vllm:num_requests_running{{{model}}} 0"),
            "tidemill:expert_hits_total{model_name=\"c\"} 7".to_owned(),
            "# TYPE vllm:time_to_first_token_seconds histogram".to_owned(),
            format!("vllm:time_to_first_token_seconds_bucket{{{model},le=\"0.02\"}} 0"),
            format!("vllm:time_to_first_token_seconds_bucket{{{model},le=\"0.04\"}} 1"),
            format!("vllm:time_to_first_token_seconds_bucket{{{model},le=\"+Inf\"}} 1"),
            format!("vllm:time_to_first_token_seconds_count{{{model}}} 1"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
