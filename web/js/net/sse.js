// Server-sent events, read from pieces of text that are cut anywhere.

/** Collects pieces of a stream and gives back the events that are complete. */
export class SseReader {
  #rest = "";
  #data = [];
  #name = "";

  /**
   * Takes the next piece of the stream.
   * @param {string} piece
   * @returns {{name: string, data: string}[]} the events that it completes
   */
  push(piece) {
    this.#rest += piece;
    const events = [];
    for (;;) {
      const end = this.#rest.search(/[\r\n]/);
      if (end < 0) break;
      // A carriage return at the very end may have its line feed in the next piece.
      if (this.#rest[end] === "\r" && end + 1 === this.#rest.length) break;
      const width = this.#rest.startsWith("\r\n", end) ? 2 : 1;
      const event = this.#line(this.#rest.slice(0, end));
      this.#rest = this.#rest.slice(end + width);
      if (event) events.push(event);
    }
    return events;
  }

  #line(line) {
    if (line === "") {
      const event = this.#data.length ? { name: this.#name || "message", data: this.#data.join("\n") } : null;
      this.#data = [];
      this.#name = "";
      return event;
    }
    const colon = line.indexOf(":");
    // A line that begins with a colon is a comment: it keeps the connection alive.
    if (colon === 0) return null;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#name = value;
    return null;
  }
}
