//! `config.json` and `generation_config.json` are read as the reference library reads them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use tidemill_formats::hf::{
    HfConfig, HfGenerationConfig, HfQuantization, HfYarn, LayerType, ModelType,
};

fn parse(config: &Value) -> Result<HfConfig, String> {
    HfConfig::parse("config.json", config.to_string().as_bytes()).map_err(|e| e.to_string())
}

/// A flat configuration of `model_type` with these fields.
fn flat(model_type: &str, fields: Value) -> Value {
    let mut config = json!({ "model_type": model_type });
    let fields = fields.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(fields);
    config
}

/// As the 35B-A3B is released.
fn released() -> Value {
    let layer_types: Vec<&str> = (1..=40)
        .map(|layer| match layer % 4 {
            0 => "full_attention",
            _ => "linear_attention",
        })
        .collect();
    json!({
        "architectures": ["Qwen3_5MoeForConditionalGeneration"],
        "model_type": "qwen3_5_moe",
        "image_token_id": 248056,
        "tie_word_embeddings": false,
        "transformers_version": "5.0.0",
        "text_config": {
            "model_type": "qwen3_5_moe_text",
            "dtype": "bfloat16",
            "eos_token_id": 248044,
            "layer_types": layer_types,
            "max_position_embeddings": 262144,
            "mtp_num_hidden_layers": 1,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000000,
                "partial_rotary_factor": 0.25,
                "mrope_section": [11, 11, 10],
                "mrope_interleaved": true
            },
            "vocab_size": 248320
        },
        "vision_config": { "model_type": "qwen3_5_moe", "depth": 27, "out_hidden_size": 2048 }
    })
}

#[test]
fn a_released_file_is_read() {
    let config = parse(&released()).unwrap();
    assert_eq!(config.model_type, ModelType::Qwen35Moe);
    assert!(config.is_composite && !config.tie_word_embeddings);
    assert_eq!(config.video_token_id, Some(248_057), "the class default");
    assert_eq!(config.quantization, None);

    let text = &config.text;
    assert_eq!(
        (text.hidden_size, text.num_hidden_layers, text.head_dim),
        (2048, 40, 256)
    );
    assert_eq!(text.eos_token_ids, [248_044]);
    assert_eq!(text.dtype.as_deref(), Some("bfloat16"));
    assert_eq!(
        (text.intermediate_size, text.mtp_num_hidden_layers),
        (None, 1)
    );
    assert_eq!(text.rope.theta, 1e7);
    assert_eq!(text.layer_types[3], LayerType::FullAttention);
    let is_full = |layer: &&LayerType| **layer == LayerType::FullAttention;
    assert_eq!(text.layer_types.iter().filter(is_full).count(), 10);

    let moe = text.moe.as_ref().unwrap();
    assert_eq!((moe.num_experts, moe.num_experts_per_tok), (256, 8));
    assert!(moe.norm_topk_prob && moe.dense_layers.is_empty());

    let vision = config.vision.unwrap();
    assert_eq!((vision.hidden_size, vision.out_hidden_size), (1152, 2048));
}

#[test]
fn missing_fields_have_their_class_default() {
    let check = |model_type, layers, kv_heads, vocabulary, dense_width, experts: Option<usize>| {
        let config = parse(&flat(model_type, json!({}))).unwrap();
        let text = config.text;
        assert!(!config.is_composite && config.image_token_id.is_none());
        assert_eq!(text.num_hidden_layers, layers);
        assert_eq!(text.num_key_value_heads, kv_heads);
        assert_eq!(text.vocab_size, vocabulary);
        assert_eq!(text.intermediate_size, dense_width);
        assert_eq!(text.moe.map(|moe| moe.num_experts), experts);
        assert_eq!(text.rope.theta, 10_000.0, "not the released models' 1e7");
        assert_eq!(text.rope.partial_rotary_factor, 0.25);
    };
    check("qwen3_5_moe_text", 40, 2, 248_320, None, Some(256));
    check("qwen3_5_text", 32, 4, 248_320, Some(12_288), None);
    check("qwen3_5", 32, 4, 248_320, Some(12_288), None);
    check("qwen3_next", 48, 2, 151_936, Some(5632), Some(512));
}

#[test]
fn rope_parameters_have_many_places() {
    let rope = |fields| parse(&flat("qwen3_5_text", fields)).unwrap().text.rope;
    assert_eq!(rope(json!({ "rope_theta": 5e6 })).theta, 5e6);
    assert_eq!(
        rope(json!({ "rope_parameters": null, "rope_theta": 5e6 })).theta,
        5e6
    );
    let both = json!({ "rope_parameters": { "rope_theta": 7 }, "rope_theta": 5 });
    assert_eq!(rope(both).theta, 7.0);
    let old_name = json!({ "rope_scaling": { "type": "default", "rope_theta": 7 } });
    assert_eq!(rope(old_name).theta, 7.0);
    let empty = json!({ "rope_scaling": {}, "rope_parameters": { "rope_theta": 7 } });
    assert_eq!(rope(empty).theta, 7.0);
    assert_eq!(
        rope(json!({ "partial_rotary_factor": 0.5 })).partial_rotary_factor,
        0.5
    );
    assert_eq!(rope(json!({})).mrope_section, Some([11, 11, 10]));
    let plain = parse(&flat("qwen3_next", json!({}))).unwrap().text.rope;
    assert_eq!(plain.mrope_section, None);
}

#[test]
fn yarn_is_read() {
    let config = flat(
        "qwen3_5_text",
        json!({
            "max_position_embeddings": 1000,
            "rope_parameters": { "rope_type": "yarn", "factor": 4, "rope_theta": 1e7 }
        }),
    );
    let yarn = HfYarn {
        factor: 4.0,
        original_max_position_embeddings: 1000,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention_factor: None,
        mscale: None,
        mscale_all_dim: None,
        truncate: true,
    };
    assert_eq!(parse(&config).unwrap().text.rope.yarn, Some(yarn));
}

#[test]
fn layers_may_be_counted_or_listed() {
    use LayerType::{FullAttention as F, LinearAttention as L};
    let layers = |fields| parse(&flat("qwen3_next", fields)).unwrap().text.layer_types;
    let counted = json!({ "num_hidden_layers": 5, "full_attention_interval": 2 });
    assert_eq!(layers(counted), [L, F, L, F, L]);
    let listed = json!({
        "num_hidden_layers": 2,
        "layer_types": ["full_attention", "linear_attention"]
    });
    assert_eq!(layers(listed), [F, L]);
}

#[test]
fn dense_layers_exist_in_next_only() {
    let fields = json!({
        "num_hidden_layers": 6, "decoder_sparse_step": 2, "mlp_only_layers": [1],
        "norm_topk_prob": false
    });
    let moe = |model_type| {
        let config = parse(&flat(model_type, fields.clone())).unwrap();
        config.text.moe.unwrap()
    };
    let next = moe("qwen3_next");
    assert_eq!(next.dense_layers, [0, 1, 2, 4]);
    assert!(!next.norm_topk_prob);
    let later = moe("qwen3_5_moe_text");
    assert!(later.dense_layers.is_empty() && later.norm_topk_prob);
}

#[test]
fn quantisation_is_read_at_both_levels() {
    let fp8 = json!({
        "quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic",
        "modules_to_not_convert": ["lm_head"]
    });
    let expected = HfQuantization::Fp8 {
        weight_block_size: Some([128, 128]),
        activation_scheme: Some("dynamic".to_owned()),
        modules_to_not_convert: vec!["lm_head".to_owned()],
    };
    for place in ["", "/text_config"] {
        let mut config = released();
        config.pointer_mut(place).unwrap()["quantization_config"] = fp8.clone();
        assert_eq!(parse(&config).unwrap().quantization, Some(expected.clone()));
    }
    let awq = flat(
        "qwen3_next",
        json!({ "quantization_config": { "quant_method": "awq" } }),
    );
    let method = "awq".to_owned();
    assert_eq!(
        parse(&awq).unwrap().quantization,
        Some(HfQuantization::Other { method })
    );
}

#[test]
fn what_no_model_can_have_is_refused() {
    let check = |model_type: &str, fields: Value, expected: &str| {
        let error = parse(&flat(model_type, fields)).unwrap_err();
        assert_eq!(error, format!("config.json: {expected}"));
    };
    let dense = "qwen3_5_text";
    check(
        "llama",
        json!({}),
        "model_type is \"llama\", expected one of qwen3_5_moe, qwen3_5_moe_text, qwen3_5, \
         qwen3_5_text, qwen3_next; this program runs the Qwen3.5 family only",
    );
    check(
        dense,
        json!({ "num_attention_heads": 0 }),
        "num_attention_heads is 0, expected 1 to 65536",
    );
    check(
        dense,
        json!({ "num_hidden_layers": 1_000_000_000_000u64 }),
        "num_hidden_layers is 1000000000000, expected 1 to 1024",
    );
    check(
        dense,
        json!({ "num_key_value_heads": 3 }),
        "num_attention_heads is 16, expected a multiple of num_key_value_heads, 3",
    );
    check(
        dense,
        json!({ "rms_norm_eps": -1 }),
        "rms_norm_eps is -1, expected a number above 0",
    );
    check(
        dense,
        json!({ "layer_types": ["full_attention"] }),
        "layer_types is a list of 1, expected 32, one for each layer",
    );
    check(
        dense,
        json!({ "num_hidden_layers": 1, "layer_types": ["sliding_attention"] }),
        "layer_types is a list with \"sliding_attention\", expected full_attention and \
         linear_attention only",
    );
    check(
        dense,
        json!({ "full_attention_interval": 0 }),
        "full_attention_interval is 0, expected 1 to 1024",
    );
    check(
        dense,
        json!({ "rope_parameters": { "rope_type": "llama3" } }),
        "rope_type is \"llama3\", expected \"default\" or \"yarn\"",
    );
    check(
        dense,
        json!({ "rope_parameters": { "rope_type": "yarn" } }),
        "rope_parameters.factor is missing, expected a number, for rope_type \"yarn\"",
    );
    check(
        dense,
        json!({ "rope_parameters": { "mrope_section": [1, 2] } }),
        "mrope_section is [1, 2], expected three numbers of frequencies",
    );
    check(
        dense,
        json!({ "vision_config": { "num_position_embeddings": 5 } }),
        "vision_config.num_position_embeddings is 5, expected a square number",
    );
    check(
        "qwen3_5_moe_text",
        json!({ "num_experts": 4 }),
        "num_experts_per_tok is 8, expected 1 to 4",
    );
}

#[test]
fn what_is_no_json_is_named() {
    let check = |text: &[u8], expected: &str| {
        let error = HfConfig::parse("config.json", text)
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            format!("config.json: cannot be understood: {expected}")
        );
    };
    check(b"{\"model_type\": }", "expected value at line 1 column 16");
    check(
        b"<html>",
        "it is an HTML page; this is a failed download, fetch the file again",
    );
    check(
        br#"{"model_type": "qwen3_5", "hidden_size": "wide"}"#,
        "invalid type: string \"wide\", expected usize",
    );
    let deep = "[".repeat(100_000);
    assert!(HfConfig::parse("config.json", deep.as_bytes()).is_err());
}

#[test]
fn files_are_found_in_their_folder() {
    let folder = tempfile::tempdir().unwrap();
    assert!(HfConfig::read(folder.path()).is_err());
    assert_eq!(HfGenerationConfig::read(folder.path()).unwrap(), None);
    let path = folder.path().join("config.json");
    std::fs::write(&path, released().to_string()).unwrap();
    assert!(HfConfig::read(folder.path()).is_ok() && HfConfig::read(&path).is_ok());
}

#[test]
fn generation_defaults_are_read() {
    let parse = |json: Value| {
        let text = json.to_string();
        HfGenerationConfig::parse("generation_config.json", text.as_bytes())
    };
    let config = parse(json!({
        "bos_token_id": 248044, "eos_token_id": [248046, 248044], "do_sample": true,
        "temperature": 0.6, "top_k": 20, "top_p": 0.95, "transformers_version": "5.0.0"
    }));
    let expected = HfGenerationConfig {
        bos_token_id: Some(248_044),
        eos_token_ids: vec![248_046, 248_044],
        do_sample: Some(true),
        temperature: Some(0.6),
        top_k: Some(20),
        top_p: Some(0.95),
        ..HfGenerationConfig::default()
    };
    assert_eq!(config.unwrap(), expected);
    assert_eq!(
        parse(json!({ "top_p": 7 })).unwrap_err().to_string(),
        "generation_config.json: top_p is 7, expected 0 to 1"
    );
}
