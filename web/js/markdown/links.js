// Which addresses in a model's text may become links.

const SAFE = /^(https?:|mailto:)/i;
// Browsers drop these from addresses, so that `java\nscript:` would be read as one word.
const IGNORED = /[\u0000-\u0020\u007f-\u00a0\u200b-\u200f\u2028\u2029\ufeff]/g;

/**
 * The address, if its scheme is one that cannot run anything; else null.
 * @param {string} address
 */
export function safeAddress(address) {
  const bare = address.replace(IGNORED, "");
  return SAFE.test(bare) ? bare : null;
}
