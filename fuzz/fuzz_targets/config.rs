//! `config.json` and `generation_config.json`: whatever the bytes, sane numbers or an error.

#![no_main]

use formats::hf::{HfConfig, HfGenerationConfig};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(config) = HfConfig::parse("config.json", data) {
        let text = &config.text;
        assert_eq!(text.layer_types.len(), text.num_hidden_layers);
        assert!(text.num_attention_heads % text.num_key_value_heads == 0);
        assert!(text.rope.theta.is_finite());
    }
    let _ = HfGenerationConfig::parse("generation_config.json", data);
});
