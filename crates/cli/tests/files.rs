//! Files written by the real binary, read back by our own reader.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use formats::DType;
use formats::gguf::GgufFile;
use formats::hf::HfConfig;
use formats::safetensors::Checkpoint;
use model::bind::{config_from_gguf, config_from_hf, weights_from_checkpoint, weights_from_gguf};
use model::weights::{FeedForward, Mixer, Weights};
use tensor::{Reference, StoredMatrix};

fn tidemill(args: &[&str]) {
    Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(args)
        .assert()
        .success();
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../model/tests/goldens")
        .join(name)
}

#[test]
fn synth_writes_true_shapes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let target = path.to_str().unwrap();
    tidemill(&["synth", "--arch", "tiny", "--layers", "4", "-o", target]);

    let file = GgufFile::open(&path).unwrap();
    let config = config_from_gguf(&file).unwrap();
    assert_eq!((config.layers.len(), config.mtp_layers), (4, 1));
    weights_from_gguf(&file, &config).unwrap();
    let vocabulary = text::Vocabulary::from_gguf(file.metadata()).unwrap();
    assert_eq!(vocabulary.tokens.len(), config.vocab_size);
    text::Tokenizer::new(&vocabulary).unwrap();
    let dtype = |name: &str| file.tensor(name).unwrap().dtype;
    assert_eq!(dtype("output.weight"), DType::Q6_K);
    assert_eq!(dtype("blk.1.ffn_gate_exps.weight"), DType::Q4_K);
    assert_eq!(dtype("blk.1.ffn_gate_inp.weight"), DType::F32);
    assert_eq!(dtype("blk.4.nextn.eh_proj.weight"), DType::Q4_K);

    let again = folder.path().join("again.gguf");
    tidemill(&[
        "synth",
        "--arch",
        "tiny",
        "--layers",
        "4",
        "-t",
        "1",
        "-o",
        again.to_str().unwrap(),
    ]);
    let bytes = |path: &Path| std::fs::read(path).unwrap();
    assert!(
        bytes(&path) == bytes(&again),
        "the same on any number of threads"
    );
}

/// Every checkpoint layout, without loss: what is read from the GGUF file is what is read from
/// the checkpoint, but for the order of the value heads.
#[test]
fn convert_keeps_every_value() {
    for name in [
        "moe_text",
        "moe_composite",
        "dense_text",
        "qwen3_next",
        "fp8",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let source = golden(name);
        tidemill(&[
            "convert",
            source.to_str().unwrap(),
            "-T",
            "F32",
            "-o",
            path.to_str().unwrap(),
        ]);

        let hf = HfConfig::read(&source).unwrap();
        let checkpoint = Checkpoint::open(&source).unwrap();
        let mut before = config_from_hf(&hf, &checkpoint).unwrap();
        let expected = weights_from_checkpoint(&checkpoint, &hf, &before).unwrap();
        let file = GgufFile::open(&path).unwrap();
        let after = config_from_gguf(&file).unwrap();
        let found = weights_from_gguf(&file, &after).unwrap();

        before.delta.order = after.delta.order;
        assert_eq!(before, after, "{name}");
        compare(name, &expected, &found, &after);
    }
}

fn compare(
    name: &str,
    expected: &Weights<Reference>,
    found: &Weights<Reference>,
    config: &model::Config,
) {
    let same = |what: &str, a: &StoredMatrix, b: &StoredMatrix| {
        assert!(a.decode() == b.decode(), "{name}: {what}");
    };
    same("embedding", &expected.embedding, &found.embedding);
    assert_eq!(expected.norm, found.norm, "{name}");
    assert_eq!(expected.head.is_some(), found.head.is_some(), "{name}");
    assert_eq!(expected.mtp.is_some(), found.mtp.is_some(), "{name}");
    if let (Some(a), Some(b)) = (&expected.mtp, &found.mtp) {
        same("mtp join", &a.join, &b.join);
        assert_eq!(a.hidden_norm, b.hidden_norm, "{name}");
        assert_eq!(a.norm, b.norm, "{name}");
    }
    for (index, (a, b)) in expected.layers.iter().zip(&found.layers).enumerate() {
        assert_eq!(a.norm_in, b.norm_in, "{name}: layer {index}");
        match (&a.mixer, &b.mixer) {
            (Mixer::Attention { weights: a, .. }, Mixer::Attention { weights: b, .. }) => {
                same("query", &a.query_gate, &b.query_gate);
                same("output", &a.output, &b.output);
                assert_eq!(a.key_norm, b.key_norm, "{name}: layer {index}");
            }
            (Mixer::Delta { weights: a, .. }, Mixer::Delta { weights: b, .. }) => {
                // Head by head: place h of the file holds the checkpoint's head `heads[h]`.
                let shape = &config.delta;
                let heads = heads(config);
                assert_eq!(pick(&a.decay, &heads, 1), b.decay, "{name}: layer {index}");
                assert_eq!(
                    pick(&a.dt_bias, &heads, 1),
                    b.dt_bias,
                    "{name}: layer {index}"
                );
                let hidden = config.hidden_size;
                let rows = |matrix: &StoredMatrix| matrix.decode();
                assert_eq!(pick(&rows(&a.a), &heads, hidden), rows(&b.a), "{name}: a");
                assert_eq!(pick(&rows(&a.b), &heads, hidden), rows(&b.b), "{name}: b");
                let z = pick(&rows(&a.z), &heads, shape.value_dim * hidden);
                assert!(z == rows(&b.z), "{name}: z of layer {index}");
                let keys = 2 * shape.key_heads * shape.key_dim;
                let (qk, v) = a.conv.split_at(keys * shape.conv_taps);
                let v = pick(v, &heads, shape.value_dim * shape.conv_taps);
                assert!(
                    [qk, &v].concat() == b.conv,
                    "{name}: convolution of layer {index}"
                );
                let qkv = rows(&a.qkv);
                let (qk, v) = qkv.split_at(keys * hidden);
                let v = pick(v, &heads, shape.value_dim * hidden);
                assert!(
                    [qk, &v].concat() == rows(&b.qkv),
                    "{name}: qkv of layer {index}"
                );
                let (out_a, out_b) = (rows(&a.output), rows(&b.output));
                let width = shape.value_heads * shape.value_dim;
                for (a, b) in out_a.chunks(width).zip(out_b.chunks(width)) {
                    assert!(pick(a, &heads, shape.value_dim) == b, "{name}: out {index}");
                }
            }
            _ => panic!("{name}: layer {index} is of another kind"),
        }
        match (&a.feed_forward, &b.feed_forward) {
            (FeedForward::Dense(a), FeedForward::Dense(b)) => same("down", &a.down, &b.down),
            (FeedForward::Experts(a), FeedForward::Experts(b)) => {
                same("router", &a.router, &b.router);
                for (a, b) in a.experts.experts.iter().zip(&b.experts.experts) {
                    same("expert gate", &a.gate, &b.gate);
                    same("expert up", &a.up, &b.up);
                    same("expert down", &a.down, &b.down);
                }
            }
            _ => panic!("{name}: layer {index} is of another kind"),
        }
    }
}

/// Which of the checkpoint's value heads lies where in the file: it must read the same key head.
fn heads(config: &model::Config) -> Vec<usize> {
    let shape = &config.delta;
    let group = shape.value_heads / shape.key_heads;
    let mut used = vec![0; shape.key_heads];
    (0..shape.value_heads)
        .map(|place| {
            let key_head = shape.key_head(place);
            used[key_head] += 1;
            key_head * group + used[key_head] - 1
        })
        .collect()
}

fn pick(values: &[f32], heads: &[usize], width: usize) -> Vec<f32> {
    heads
        .iter()
        .flat_map(|head| values[head * width..][..width].iter().copied())
        .collect()
}
