//! The forward pass, written once (sections 4 to 7 and 12).

use tensor::{Batch, OpError, Ops, Rotary};

use crate::config::Config;
use crate::weights::{
    Attention, DeltaNet, FREQUENT_TOKENS, FeedForward, Layer, Mixer, Mtp, Weights,
};

/// A model on a device, ready to compute.
pub struct Model<O: Ops> {
    /// Its sizes.
    pub config: Config,
    rotary: Rotary,
    weights: Weights<O>,
}

impl<O: Ops> Model<O> {
    /// Joins sizes and weights.
    pub fn new(config: Config, weights: Weights<O>) -> Self {
        Self {
            rotary: config.rotary.rotary(),
            config,
            weights,
        }
    }

    /// Whether there is a multi-token-prediction head.
    pub fn has_mtp(&self) -> bool {
        self.weights.mtp.is_some()
    }

    /// Runs the new tokens of a batch through all layers: `[rows, hidden]`, normalised for the
    /// head. Keys, values and states of every sequence in it move on by its new tokens.
    ///
    /// # Errors
    /// If the batch does not fit the memory, a token is outside the vocabulary, or the device
    /// fails.
    pub fn forward(
        &self,
        ops: &O,
        memory: &mut O::Memory,
        batch: &Batch,
    ) -> Result<O::Tensor, OpError> {
        let mut x = ops.embed(&self.weights.embedding, &batch.tokens)?;
        let mut fed = None;
        for layer in &self.weights.layers {
            fed = Some(self.layer(ops, memory, batch, layer, &mut x, fed.as_ref())?);
        }
        ops.add_norm(
            &mut x,
            fed.as_ref(),
            &self.weights.norm,
            self.config.rms_norm_eps,
        )
    }

    /// The logits `[rows, vocabulary]` of some rows of a forward pass.
    ///
    /// # Errors
    /// If a row is out of range or the device fails.
    pub fn logits(
        &self,
        ops: &O,
        hidden: &O::Tensor,
        rows: &[usize],
    ) -> Result<O::Tensor, OpError> {
        let head = self
            .weights
            .head
            .as_ref()
            .unwrap_or(&self.weights.embedding);
        let [logits] = ops.linear(&ops.select_rows(hidden, rows)?, [head])?;
        Ok(logits)
    }

    /// Runs the multi-token-prediction head: `hidden` are rows of [`Model::forward`] (or of this,
    /// for a further draft), the batch's tokens are the ones that follow them. Returns
    /// `[rows, hidden]`, normalised for [`Model::draft_logits`]; row t predicts the token after
    /// the batch's token t. `None` if the model has no such head.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn draft(
        &self,
        ops: &O,
        memory: &mut O::Memory,
        batch: &Batch,
        hidden: &O::Tensor,
    ) -> Result<Option<O::Tensor>, OpError> {
        let Some(mtp) = &self.weights.mtp else {
            return Ok(None);
        };
        let Mtp {
            embedding_norm,
            hidden_norm,
            join,
            layer,
            norm,
            embedding,
            ..
        } = mtp;
        let eps = self.config.rms_norm_eps;
        let table = embedding.as_ref().unwrap_or(&self.weights.embedding);

        let mut next = ops.embed(table, &batch.tokens)?;
        let next = ops.add_norm(&mut next, None, embedding_norm, eps)?;
        // The norm takes its input mutably, for residuals; this one is still the caller's.
        let all = (0..ops.rows(hidden)).collect::<Vec<_>>();
        let hidden = ops.add_norm(&mut ops.select_rows(hidden, &all)?, None, hidden_norm, eps)?;
        let [mut x] = ops.linear(&ops.concat(&next, &hidden)?, [join])?;
        let fed = self.layer(ops, memory, batch, layer, &mut x, None)?;
        ops.add_norm(&mut x, Some(&fed), norm, eps).map(Some)
    }

    /// How many tokens, the first ones, have logits at less cost than all in
    /// [`Model::draft_logits`]; `None` where that makes no difference.
    pub fn frequent_tokens(&self) -> Option<usize> {
        let mtp = self.weights.mtp.as_ref()?;
        mtp.frequent.as_ref().map(|_| FREQUENT_TOKENS)
    }

    /// The logits of some rows of [`Model::draft`]: of all tokens, or, if `is_frequent`, of the
    /// frequent ones alone where the model tells them apart.
    ///
    /// # Errors
    /// As [`Model::logits`].
    pub fn draft_logits(
        &self,
        ops: &O,
        drafted: &O::Tensor,
        rows: &[usize],
        is_frequent: bool,
    ) -> Result<O::Tensor, OpError> {
        let mtp = self.weights.mtp.as_ref();
        let frequent = mtp.and_then(|mtp| mtp.frequent.as_ref());
        let head = mtp.and_then(|mtp| mtp.head.as_ref());
        match frequent.filter(|_| is_frequent).or(head) {
            Some(head) => {
                let [logits] = ops.linear(&ops.select_rows(drafted, rows)?, [head])?;
                Ok(logits)
            }
            None => self.logits(ops, drafted, rows),
        }
    }

    /// One layer. `x` is the residual stream, to which `pending` (what the layer before fed
    /// forward) is still to be added; returns what is to be added after this layer.
    fn layer(
        &self,
        ops: &O,
        memory: &mut O::Memory,
        batch: &Batch,
        layer: &Layer<O>,
        x: &mut O::Tensor,
        pending: Option<&O::Tensor>,
    ) -> Result<O::Tensor, OpError> {
        let eps = self.config.rms_norm_eps;
        let normed = ops.add_norm(x, pending, &layer.norm_in, eps)?;
        let mixed = match &layer.mixer {
            Mixer::Attention { index, weights } => {
                self.attention(ops, memory, batch, *index, weights, &normed)?
            }
            Mixer::Delta { index, weights } => {
                self.delta_net(ops, memory, batch, *index, weights, &normed)?
            }
        };
        let normed = ops.add_norm(x, Some(&mixed), &layer.norm_mid, eps)?;
        match &layer.feed_forward {
            FeedForward::Dense(mlp) => ops.mlp(&normed, mlp.as_ref()),
            FeedForward::Experts(moe) => {
                let moe = moe.as_ref();
                let routing = ops.route(&normed, &moe)?;
                ops.experts(&normed, &routing, &moe)
            }
        }
    }

    /// Gated attention (section 5).
    fn attention(
        &self,
        ops: &O,
        memory: &mut O::Memory,
        batch: &Batch,
        index: usize,
        weights: &Attention<O>,
        x: &O::Tensor,
    ) -> Result<O::Tensor, OpError> {
        let shape = &self.config.attention;
        let norms = (
            &weights.query_norm,
            &weights.key_norm,
            self.config.rms_norm_eps,
        );
        let [query_gate, key, value] =
            ops.linear(x, [&weights.query_gate, &weights.key, &weights.value])?;
        let (query, gate) = ops.attention_inputs(
            memory,
            index,
            batch,
            shape,
            &self.rotary,
            norms,
            query_gate,
            key,
            value,
        )?;
        let mixed = ops.attention(memory, index, batch, shape, query, gate)?;
        let [output] = ops.linear(&mixed, [&weights.output])?;
        Ok(output)
    }

    /// Gated DeltaNet (section 6).
    fn delta_net(
        &self,
        ops: &O,
        memory: &mut O::Memory,
        batch: &Batch,
        index: usize,
        weights: &DeltaNet<O>,
        x: &O::Tensor,
    ) -> Result<O::Tensor, OpError> {
        let shape = &self.config.delta;
        let DeltaNet { decay, dt_bias, .. } = weights;
        let [qkv, z, a, b] = ops.linear(x, [&weights.qkv, &weights.z, &weights.a, &weights.b])?;
        let qkv = ops.causal_conv(memory, index, batch, shape, &weights.conv, qkv)?;
        let mixed = ops.delta_rule(memory, index, batch, shape, qkv, &a, &b, decay, dt_bias)?;
        let gated = ops.gated_norm(mixed, &z, &weights.norm, self.config.rms_norm_eps)?;
        let [output] = ops.linear(&gated, [&weights.output])?;
        Ok(output)
    }
}
