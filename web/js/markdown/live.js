// Markdown that grows: what cannot change any more is not read again.

import { blocks } from "./blocks.js";

/** Reads a text that is added to. */
export class LiveMarkdown {
  #text = "";
  /** Blocks that cannot change, and how much of the text they are. */
  #settled = [];
  #settledLength = 0;

  /**
   * The text's blocks.
   * @param {string} text all of it so far
   * @param {boolean} isWhole whether nothing will be added
   * @returns {object[]}
   */
  read(text, isWhole) {
    const isLonger = text.startsWith(this.#text.slice(0, this.#settledLength)) && text.length >= this.#settledLength;
    if (isWhole || !isLonger) {
      this.#settled = [];
      this.#settledLength = 0;
    }
    this.#text = text;
    const rest = text.slice(this.#settledLength);
    const found = blocks(rest);
    const last = found.at(-1);
    const nodes = [...this.#settled, ...found.map(({ node }) => node)];
    // The last block may go on. So may the one before it, as long as the last one's first line is not whole: a lone
    // hyphen may yet become the next item of a list.
    if (!isWhole && last && last.start < rest.lastIndexOf("\n")) {
      this.#settled = nodes.slice(0, -1);
      this.#settledLength += last.start;
    }
    return nodes;
  }
}
