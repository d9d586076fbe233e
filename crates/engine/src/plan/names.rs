//! What a tensor is, told by its name in a GGUF file or a checkpoint.

use model::{Config, LayerKind};

use super::anatomy::{Block, Piece};

/// The place of a tensor in the model; `None` for what no engine needs.
pub fn place_of(name: &str, config: &Config) -> Option<(Block, Piece)> {
    let text = name.strip_prefix("model.").unwrap_or(name);
    let text = text.strip_prefix("language_model.").unwrap_or(text);
    let text = text.strip_prefix("model.").unwrap_or(text);
    if text.starts_with("v.") || text.starts_with("mm.") || text.starts_with("visual.") {
        return Some((Block::Vision, Piece::Vision));
    }
    if text.starts_with("mtp.") {
        let piece = of_layer(text, LayerKind::Attention).unwrap_or(Piece::Join);
        return Some((Block::Mtp, piece));
    }
    match text {
        "token_embd.weight" | "embed_tokens.weight" => {
            return Some((Block::Model, Piece::Embedding));
        }
        "output.weight" | "lm_head.weight" => return Some((Block::Model, Piece::Head)),
        "output_norm.weight" | "norm.weight" => return Some((Block::Model, Piece::Norm)),
        _ if text.starts_with("lm_head.") => return Some((Block::Model, Piece::Head)),
        _ => {}
    }
    let rest = text
        .strip_prefix("blk.")
        .or_else(|| text.strip_prefix("layers."))?;
    let (number, part) = rest.split_once('.')?;
    let layer: usize = number.parse().ok()?;
    match config.layers.get(layer) {
        Some(&kind) => Some((Block::Layer(layer), of_layer(part, kind)?)),
        None if layer < config.layers.len() + config.mtp_layers => {
            let piece = of_layer(part, LayerKind::Attention).unwrap_or(Piece::Join);
            Some((Block::Mtp, piece))
        }
        None => None,
    }
}

/// The piece of a layer that a tensor belongs to, by what its name has in it.
fn of_layer(part: &str, kind: LayerKind) -> Option<Piece> {
    let has = |words: &[&str]| words.iter().any(|word| part.contains(word));
    let mixer = match kind {
        LayerKind::Attention => Piece::Attention,
        LayerKind::Delta => Piece::Delta,
    };
    Some(if has(&["_shexp", "shared_expert"]) {
        Piece::Shared
    } else if has(&["_exps", ".experts."]) {
        Piece::Experts
    } else if has(&[
        "ffn_gate_inp",
        "mlp.gate.",
        "post_attention_norm",
        "post_attention_layernorm",
    ]) {
        Piece::Router
    } else if has(&["ffn_", "mlp."]) {
        Piece::Dense
    } else if has(&["nextn."]) {
        Piece::Join
    } else if has(&[
        "attn_",
        "ssm_",
        "self_attn",
        "linear_attn",
        "input_layernorm",
    ]) {
        mixer
    } else {
        return None;
    })
}
