// Images that go with a message: chosen, pasted or dropped; made smaller where they are large.

import { iconButton } from "./button.js";
import { h } from "./h.js";
import { toast } from "./notices.js";

const LONGEST_SIDE = 1536;
const MOST = 8;

export class Images {
  #urls = [];

  constructor(changed) {
    this.changed = changed;
    this.element = h("div", { class: "images", hidden: true });
    this.input = h("input", {
      type: "file",
      accept: "image/*",
      multiple: true,
      hidden: true,
      on: { change: () => this.#add(this.input.files) },
    });
  }

  /** Lets images be pasted into a field and dropped on a box, while `isWanted`. */
  takeFrom(box, field, isWanted) {
    const take = (event, files) => {
      const images = [...(files ?? [])].filter((file) => file.type.startsWith("image/"));
      if (!images.length || !isWanted()) return;
      event.preventDefault();
      this.#add(images);
    };
    field.addEventListener("paste", (event) => take(event, event.clipboardData?.files));
    box.addEventListener("dragover", (event) => isWanted() && event.preventDefault());
    box.addEventListener("drop", (event) => take(event, event.dataTransfer?.files));
    box.append(this.input);
  }

  choose() {
    this.input.value = "";
    this.input.click();
  }

  taken() {
    return [...this.#urls];
  }

  clear() {
    this.#urls = [];
    this.#draw();
  }

  async #add(files) {
    for (const file of files) {
      if (this.#urls.length >= MOST) return toast(`At most ${MOST} images go with a message.`);
      try {
        this.#urls.push(await urlOf(file));
      } catch {
        toast(`${file.name} is no image that this browser can read.`);
      }
    }
    this.#draw();
  }

  #draw() {
    const shown = this.#urls.map((url, index) => {
      const remove = () => {
        this.#urls.splice(index, 1);
        this.#draw();
      };
      return h(
        "figure",
        {},
        h("img", { src: url, alt: `Image ${index + 1}` }),
        iconButton("close", "Remove image", remove),
      );
    });
    this.element.replaceChildren(...shown);
    this.element.hidden = !shown.length;
    this.changed();
  }
}

/** A file as a data address, no larger than a model looks at. */
async function urlOf(file) {
  const image = await createImageBitmap(file);
  const scale = Math.min(1, LONGEST_SIDE / Math.max(image.width, image.height));
  const canvas = h("canvas", { width: Math.round(image.width * scale), height: Math.round(image.height * scale) });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  const isLossless = file.type === "image/png" && file.size < 400_000;
  return canvas.toDataURL(isLossless ? "image/png" : "image/jpeg", 0.88);
}
