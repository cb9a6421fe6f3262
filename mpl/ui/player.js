() => {
  // Two videos, one clock. Neither video plays by itself: the clock names a frame, both seek to its middle, and the
  // next frame waits until both are there. So they never drift, whatever their frame rates, and a slow machine plays
  // slowly instead of skipping. The markup is player.py's.
  const KEYS = { k: "play", ",": "back", ".": "forward", s: "swap", Home: "first", End: "last" };
  const PAN = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const PAN_PIXELS = 48;
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const players = new WeakMap();
  let made = 0;

  /** One video: the frame that it shows, or is on its way to. */
  class Arm {
    constructor(figure, changed, signal) {
      this.letter = figure.dataset.arm;
      this.frames = Number(figure.dataset.frames);
      this.fps = Number(figure.dataset.fps);
      this.video = figure.querySelector("video");
      this.address = this.video.src;
      this.count = figure.querySelector(".count");
      this.shown = null; // nothing yet
      this.aim = null;
      this.broken = false;
      this.video.muted = true;
      this.video.addEventListener("loadedmetadata", changed, { signal });
      this.video.addEventListener("seeked", () => { this.arrive(); changed(); }, { signal });
      this.video.addEventListener("error", () => { this.fail(); changed(); }, { signal });
      if (this.video.error) this.fail();
    }

    get busy() {
      return this.aim !== null || this.video.readyState < HTMLMediaElement.HAVE_METADATA;
    }

    seek(frame) {
      if (frame === this.shown) return;
      this.aim = frame;
      this.video.currentTime = (frame + 0.5) / this.fps; // the middle: no rounding leads to its neighbour
    }

    arrive() {
      if (this.aim === null) return;
      this.shown = this.aim;
      this.aim = null;
      this.count.textContent = `${this.shown + 1} / ${this.frames}`;
    }

    fail() {
      this.broken = true;
      this.aim = this.shown = null;
      this.count.textContent = "";
      const note = document.createElement("p");
      note.className = "note";
      note.textContent = "This video cannot be played here.";
      this.video.replaceWith(note);
    }
  }

  class Player {
    /** `before` is the player that these elements belonged to. */
    constructor(root, before) {
      this.root = root;
      this.gone = new AbortController();
      this.part = (selector) => root.querySelector(selector);
      this.screens = [...root.querySelectorAll(".screen")];
      this.arms = [...root.querySelectorAll(".arm[data-frames]")].map(
        (figure) => new Arm(figure, () => this.settle(), this.gone.signal),
      );
      this.frames = Math.max(1, ...this.arms.map((arm) => arm.frames));
      this.fps = (this.arms.find((arm) => arm.frames === this.frames) || {}).fps;
      this.index = 0; // the frame asked for, of the longer video
      this.swapped = false;
      this.choices = {};
      this.visible = true;
      this.loop = 0;
      this.takeControls();
      this.play((document.documentElement.dataset.still ?? String(still.matches)) !== "true");
      if (before) this.takeOver(before);
      this.settle();
      if (this.arms.length) this.listen();
    }

    /** False once the root is gone from the page, or was given to another player. */
    get alive() {
      return this.root.isConnected && isTaken(this.root) && !this.gone.signal.aborted;
    }

    /** Where a video stays, so does what a person was looking at. */
    takeOver(before) {
      before.gone.abort();
      if (!this.arms.some((arm) => before.arms.some((old) => old.address === arm.address))) return;
      this.index = Math.round((before.index / Math.max(1, before.frames - 1)) * (this.frames - 1));
      this.play(before.playing);
      if (before.swapped) this.swap();
    }

    // ---- frames

    get live() {
      return this.arms.filter((arm) => !arm.broken);
    }

    /** The arm's frame at the present index: its equal, or as far along where the counts differ. */
    frameOf(arm) {
      if (arm.frames === this.frames) return this.index;
      return Math.round((this.index * (arm.frames - 1)) / (this.frames - 1));
    }

    get settled() {
      return this.live.every((arm) => !arm.busy && arm.shown === this.frameOf(arm));
    }

    /** Sends both videos to the present frame, but none ahead while the other is still on its way. */
    settle() {
      if (!this.live.some((arm) => arm.busy)) this.live.forEach((arm) => arm.seek(this.frameOf(arm)));
      this.report();
    }

    show(index) {
      this.index = index;
      this.settle();
    }

    /** Further by so many frames, around the ends. */
    turn(by) {
      this.show((this.index + by + this.frames) % this.frames);
    }

    // ---- the clock

    play(on) {
      this.playing = on;
      this.owed = 0; // frames that time has asked for and that were not shown yet
      this.last = null;
      this.wake();
      this.report();
    }

    wake() {
      if (this.playing && !this.loop) this.loop = requestAnimationFrame((now) => this.tick(now));
    }

    tick(now) {
      this.loop = 0;
      if (!this.alive) return; // nothing is left running
      if (this.visible && this.last !== null) this.owed += ((now - this.last) / 1000) * this.fps * this.choices.speed;
      this.last = now;
      if (this.playing && this.visible && this.owed >= 1 && this.live.length && this.settled) {
        this.owed = Math.min(this.owed - 1, 1); // what is late stays late
        this.turn(1);
      }
      this.wake();
    }

    // ---- what is seen

    report() {
      const { root, index, frames } = this;
      this.arms.forEach((arm) => { root.dataset[`frame${arm.letter.toUpperCase()}`] = arm.shown ?? ""; });
      root.dataset.playing = this.playing;
      root.dataset.settled = this.settled;
      const scrubber = this.part(".scrubber");
      scrubber.value = index;
      scrubber.setAttribute("aria-valuetext", `frame ${index + 1} of ${frames}`);
      scrubber.style.setProperty("--done", frames > 1 ? index / (frames - 1) : 0);
      this.part(".readout b").textContent = index + 1;
      const play = this.part(".play");
      play.title = this.playing ? "Pause" : "Play";
      play.setAttribute("aria-label", play.title);
    }

    get sides() {
      return this.swapped ? ["B", "A"] : ["A", "B"];
    }

    swap() {
      this.swapped = !this.swapped;
      this.root.dataset.swapped = this.swapped;
      const [left, right] = this.sides;
      this.root.querySelectorAll(".arm").forEach((arm) => {
        arm.dataset.side = arm.dataset.arm === left.toLowerCase() ? "left" : "right";
      });
      this.part(".swap").setAttribute("aria-pressed", this.swapped);
      this.part(".arms").setAttribute("aria-label", `Pictures: ${left} left, ${right} right`);
      this.part(".said").textContent = `${left} is on the left, ${right} on the right`; // read aloud
      this.divide(Number(this.part(".wipe").value));
    }

    /** Moves the divider to `percent` of the width from the left. */
    divide(percent) {
      const place = Math.min(Math.max(percent, 0), 100);
      const wipe = this.part(".wipe");
      wipe.value = place; // in whole steps; the picture follows the pointer more closely
      const [left, right] = this.sides;
      wipe.setAttribute("aria-valuetext", `${wipe.value} % ${left}, ${100 - wipe.value} % ${right}`);
      this.root.style.setProperty("--wipe", place);
    }

    /** A choice of speed, zoom or view. */
    choose(key, value) {
      const centre = this.centre();
      this.choices[key] = value;
      this.root.dataset[key] = value;
      this.part(`[data-key=${key}][value="${value}"]`).checked = true;
      this.root.style.setProperty("--zoom", Number(this.choices.zoom) || 1);
      if (key !== "speed") this.scrollTo(centre);
    }

    /** The middle of what is seen, as parts of the whole picture. */
    centre() {
      const { scrollLeft, scrollTop, clientWidth, clientHeight, scrollWidth, scrollHeight } = this.screens[0];
      return [(scrollLeft + clientWidth / 2) / scrollWidth, (scrollTop + clientHeight / 2) / scrollHeight];
    }

    scrollTo([x, y]) {
      this.screens.forEach((it) => {
        it.scrollTo(x * it.scrollWidth - it.clientWidth / 2, y * it.scrollHeight - it.clientHeight / 2);
      });
    }

    /** Both pictures show the same part. */
    align(leader) {
      this.screens.forEach((screen) => {
        if (screen !== leader) screen.scrollTo(leader.scrollLeft, leader.scrollTop);
      });
    }

    pan(right, down) {
      this.screens[0].scrollBy(right, down);
      this.align(this.screens[0]);
    }

    // ---- what is pressed, pulled and chosen

    /** Does as the controls say; they may have been set for the player before. */
    takeControls() {
      made += 1; // radio buttons of one name belong together: each player's get names of their own
      this.root.querySelectorAll("input[type=radio]").forEach((radio) => {
        radio.name = `player-${made}-${radio.dataset.key}`;
      });
      this.root.querySelectorAll("input[type=radio]:checked").forEach((radio) => {
        this.choose(radio.dataset.key, radio.value);
      });
      this.divide(Number(this.part(".wipe").value));
    }

    listen() {
      const { root, gone: { signal } } = this;
      root.addEventListener("click", ({ target }) => {
        const button = target.closest("[data-act]");
        if (button) this.act(button.dataset.act);
      }, { signal });
      root.addEventListener("input", ({ target }) => this.input(target), { signal });
      root.addEventListener("keydown", (event) => this.key(event), { signal });
      root.addEventListener("pointerdown", (event) => this.grab(event), { signal });
      root.addEventListener("scroll", ({ target }) => {
        if (target.matches(".screen")) this.align(target);
      }, { signal, capture: true });
      // Out of sight, as under another tab, no frame is worth decoding.
      const watch = new IntersectionObserver((seen) => { this.visible = seen[seen.length - 1].isIntersecting; });
      watch.observe(root);
      signal.addEventListener("abort", () => watch.disconnect());
    }

    act(name) {
      if (name === "play") return this.play(!this.playing);
      if (name === "swap") return this.swap();
      this.play(false); // who asks for a frame wants to look at it
      if (name === "first") return this.show(0);
      if (name === "last") return this.show(this.frames - 1);
      return this.turn(name === "back" ? -1 : 1);
    }

    input(field) {
      const value = Number(field.value); // before the report sets it back
      if (field.matches(".wipe")) return this.divide(value);
      if (field.dataset.key) return this.choose(field.dataset.key, field.value);
      this.play(false);
      return this.show(value);
    }

    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
      if (this.press(event)) event.preventDefault();
    }

    /** Does what a key stands for; false leaves it to the browser. */
    press({ key, target, repeat }) {
      const act = this.actOf(key, target);
      if (act && !(repeat && (act === "play" || act === "swap"))) this.act(act);
      if (act) return true;
      if (key in PAN && target.closest(".arms")) return this.panKey(key);
      if (key.toLowerCase() !== "w" || repeat || this.part(".pair").disabled) return false;
      this.choose("view", this.choices.view === "wipe" ? "side" : "wipe");
      return true;
    }

    /** The act of a key, unless the control that has the focus uses the key itself. */
    actOf(key, target) {
      if (key === " ") return target.matches("button, summary, input[type=radio]:not(:checked)") ? null : "play";
      if (key === "Home" || key === "End") return target.matches("input[type=range]") ? null : KEYS[key];
      if (key.toLowerCase() === "s" && this.part(".pair").disabled) return null;
      return KEYS[key.toLowerCase()];
    }

    panKey(key) {
      if (this.choices.zoom === "fit") return false;
      this.pan(...PAN[key].map((way) => way * PAN_PIXELS));
      return true;
    }

    /** A pointer on the pictures moves the divider, or else an enlarged picture; a finger scrolls by itself. */
    grab(event) {
      const { target: screen, button, pointerType, pointerId } = event;
      if (!screen.matches(".screen") || button) return;
      if (event.offsetX > screen.clientWidth || event.offsetY > screen.clientHeight) return; // on a scrollbar
      const wipe = this.choices.view === "wipe";
      if (!wipe && (pointerType === "touch" || this.choices.zoom === "fit")) return;
      const box = this.part(".divider").getBoundingClientRect();
      let last = event;
      const move = (next) => {
        if (wipe) this.divide((100 * (next.clientX - box.left)) / box.width);
        else this.pan(last.clientX - next.clientX, last.clientY - next.clientY);
        last = next;
      };
      const arms = this.part(".arms");
      arms.setPointerCapture(pointerId);
      arms.addEventListener("pointermove", move);
      arms.addEventListener("lostpointercapture", () => arms.removeEventListener("pointermove", move), { once: true });
      move(event);
    }
  }

  // ---- players come and go with the page's HTML

  /** Gradio patches new HTML into the old elements, and so takes away what was not in the HTML. */
  function isTaken(root) {
    return "playing" in root.dataset;
  }

  function setUp(root) {
    const known = players.get(root);
    if (known && isTaken(root)) known.wake(); // it may have been away
    else players.set(root, new Player(root, known));
  }

  const scan = () => document.querySelectorAll(".mpl-player").forEach(setUp);
  const matters = ({ type, target, addedNodes }) => type === "attributes"
    ? !isTaken(target)
    : [...addedNodes].some((node) => node.nodeType === Node.ELEMENT_NODE);

  if (document.documentElement.dataset.player) return; // this script has been here before
  document.documentElement.dataset.player = "ready";
  for (const name of ["mpl:pause", "mpl:play"]) {
    document.addEventListener(name, () => {
      document.querySelectorAll(".mpl-player").forEach((root) => players.get(root)?.play(name === "mpl:play"));
    });
  }
  new MutationObserver((changes) => { if (changes.some(matters)) scan(); })
    .observe(document.documentElement, { childList: true, subtree: true, attributeFilter: ["data-playing"] });
  scan();
}
