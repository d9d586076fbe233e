//! GGUF files that other programs wrote, against the exact logits of their quantised weights.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests end where they are surprised, and report"
)]

use std::path::Path;
use std::sync::Arc;

use formats::DType;
use formats::safetensors::Checkpoint;
use tensor::Reference;
use tidemill_engine::{BackendChoice, EngineSettings, KvTypes, OpenedModel, Work};

fn logits(opened: &OpenedModel, backend: BackendChoice, prompt: &[u32]) -> Vec<f32> {
    let settings = EngineSettings {
        kv: KvTypes::both(DType::F32),
        ..EngineSettings::single(prompt.len())
    };
    let mut engine = opened.load(backend, &settings, |_, _| {}).unwrap();
    let sequence = engine.start().unwrap();
    let logits = (0..prompt.len()).collect();
    let work = Work {
        sequence,
        tokens: prompt.to_vec(),
        logits,
    };
    engine.step(&[work]).unwrap().remove(0).into_vec()
}

fn check(name: &str) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let foreign = tests.join("foreign");
    let opened = OpenedModel::open(&foreign.join(format!("{name}-q8_0.gguf"))).unwrap();
    let exact = Checkpoint::open(&foreign.join(format!("{name}-q8_0.exact.safetensors"))).unwrap();
    let exact: Vec<f32> = exact
        .tensor("logits")
        .unwrap()
        .bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    let prompt = tests
        .join("../../model/tests/goldens")
        .join(name)
        .join("prompt.json");
    let prompt: Vec<u32> = serde_json::from_str(&std::fs::read_to_string(prompt).unwrap()).unwrap();

    let cpu = || cpu::Cpu::new(Arc::new(cpu::Pool::new(2))).unwrap();
    let backends = [
        ("reference", BackendChoice::Reference(Reference::default())),
        (
            "cpu, f32 inputs",
            BackendChoice::Cpu(cpu().with_activations(cpu::Activations::Exact)),
        ),
    ];
    for (backend, choice) in backends {
        let ours = logits(&opened, choice, &prompt);
        assert_eq!(ours.len(), exact.len());
        let difference = ours
            .iter()
            .zip(&exact)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        println!("{name}, {backend}: largest logit difference {difference:.1e}");
        assert!(difference < 5e-4, "{name}, {backend}: {difference}");
    }
}

#[test]
fn a_dense_file_of_the_gguf_package_computes_what_it_holds() {
    check("dense_text");
}

#[test]
fn a_qwen3_next_file_of_the_gguf_package_computes_what_it_holds() {
    check("qwen3_next");
}
