
"use strict";
/* Lets the page be asked. Without it, the page is complete. Text goes in as text, never as HTML. */
(() => {
  const find = (id) => document.getElementById(id);
  const data = JSON.parse(find("data").textContent);
  const map = find("map");
  const [height, width] = data.image;
  const [rows, columns] = data.grid;
  const NO_NUMBER = 255;

  /* How the phases are shown. */

  const opacity = find("opacity");
  function blend() {
    map.style.setProperty("--opacity", opacity.value / 100);
    opacity.nextElementSibling.textContent = `${opacity.value} %`;
  }
  opacity.addEventListener("input", blend);
  blend(); // browsers remember what a slider said before the page was loaded again

  const choices = [...document.querySelectorAll("input[name=phase]")];
  function choose() {
    const chosen = choices.find((choice) => choice.checked)?.value ?? "all";
    const away = (phases) => chosen !== "all" && !phases.split(" ").includes(chosen);
    for (const layer of map.querySelectorAll("[data-phase]")) layer.hidden = away(layer.dataset.phase);
    for (const path of map.querySelectorAll("[data-phases]")) {
      path.setAttribute("visibility", away(path.dataset.phases) ? "hidden" : "visible");
    }
  }
  for (const choice of choices) choice.addEventListener("change", choose);
  choose();
  document.documentElement.classList.add("asked");

  /* What is stored of pixels and windows. */

  async function unpack() {
    const packed = Uint8Array.from(atob(data.bytes), (character) => character.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const bytes = await new Response(stream).arrayBuffer();
    const nPixels = data.labels[0] * data.labels[1];
    const nNumbers = rows * columns * (data.phases + 2);
    return {
      labels: new Uint16Array(bytes, 0, nPixels),
      numbers: new Uint8Array(bytes, 2 * nPixels, nNumbers),
      patterns: new Uint8Array(bytes, 2 * nPixels + nNumbers),
    };
  }

  function explore({ labels, numbers, patterns }) {
    const clamp = (value, last) => Math.min(Math.max(value, 0), last);
    const center = ([row, column]) => [data.first[0] + row * data.step[0] + 0.5, data.first[1] + column * data.step[1] + 0.5];
    const decimals = data.pixel.map((size) => (data.calibrated ? clamp(Math.ceil(-Math.log10(size)), 20) : 0));
    const length = (pixels, axis) =>
      (data.calibrated ? pixels * data.pixel[axis] : Math.floor(pixels)).toFixed(decimals[axis]);
    const share = (percent) => (percent === NO_NUMBER ? "none" : (percent / 100).toFixed(2));
    const colors = Uint8Array.from(atob(data.colors), (character) => character.charCodeAt(0));
    const members = [...document.querySelectorAll(".memberships li")];
    const canvas = document.querySelector("#window canvas");
    let current = null; // the window that is shown, [row, column]
    let held = false;

    /** Phase, from 1, at a place [y, x] in pixels of the image; 0: excluded. */
    function phaseAt([y, x]) {
      const [h, w] = data.labels;
      return labels[clamp(Math.floor((y / height) * h), h - 1) * w + clamp(Math.floor((x / width) * w), w - 1)];
    }

    /** The window whose centre is nearest to a place. */
    function nearest(place) {
      const last = [rows - 1, columns - 1];
      return place.map((p, axis) => clamp(Math.round((p - 0.5 - data.first[axis]) / data.step[axis]), last[axis]));
    }

    function show(place, window) {
      const [row, column] = (current = window);
      const phase = phaseAt(place);
      const start = (row * columns + column) * (data.phases + 2);
      const memberships = [...numbers.subarray(start, start + data.phases)];
      const [confidence, residual] = numbers.subarray(start + data.phases, start + data.phases + 2);
      const where = `x ${length(place[1], 1)} ${data.units}, y ${length(place[0], 0)} ${data.units}`;
      const name = phase ? `phase ${phase}` : "excluded";
      const swatch = document.createElement("span");
      swatch.className = `swatch p${phase}`;
      find("where").textContent = where;
      find("phase").replaceChildren(...(phase ? [swatch] : []), name);
      find("sure").textContent = `confidence ${share(confidence)}, residual ${share(residual)}`;
      members.forEach((item, i) => {
        const membership = memberships[i];
        item.querySelector("i").style.width = `${membership === NO_NUMBER ? 0 : membership}%`;
        item.querySelector("b").textContent = share(membership);
      });
      mark(window);
      if (canvas) {
        draw(row * columns + column);
        const card = phase && document.querySelector(`.card[data-phase="${phase}"] img`);
        find("of-phase").replaceChildren(...(card ? [card.cloneNode()] : []));
        find("which").textContent = phase ? `mean of ${name}` : "";
      }
      return `${where}: ${name}, confidence ${share(confidence)}`;
    }

    /** Outline of a window in the map. */
    function mark(window) {
      const [y, x] = center(window);
      find("marker").setAttribute("visibility", "visible");
      for (const outline of find("marker").children) {
        outline.setAttribute("x", x - data.window[1] / 2);
        outline.setAttribute("y", y - data.window[0] / 2);
        outline.setAttribute("width", data.window[1]);
        outline.setAttribute("height", data.window[0]);
      }
    }

    /** The pattern of a window: its right half is stored, the left one is the same turned by 180 degrees. */
    function draw(window) {
      const [h, half] = data.pattern;
      const w = 2 * half - 1;
      const context = canvas.getContext("2d");
      const picture = context.createImageData(w, h);
      for (let i = 0; i < h * w; i++) {
        const y = Math.floor(i / w);
        const kx = (i % w) - (half - 1);
        const stored = kx >= 0 ? y * half + kx : (h - 1 - y) * half - kx;
        const color = 3 * patterns[window * h * half + stored];
        picture.data.set(colors.subarray(color, color + 3), 4 * i);
        picture.data[4 * i + 3] = 255;
      }
      context.putImageData(picture, 0, 0);
    }

    function hold(on) {
      held = on;
      map.classList.toggle("held", on);
      find("held").textContent = on ? "held, Esc lets go" : "under the pointer";
    }

    /* Pointer. */

    function placeOf(event) {
      const box = map.getBoundingClientRect();
      const along = (at, size, pixels) => clamp((at / size) * pixels, pixels * (1 - 1e-9));
      return [along(event.clientY - box.top, box.height, height), along(event.clientX - box.left, box.width, width)];
    }

    map.addEventListener("pointermove", (event) => {
      const place = placeOf(event);
      if (held) return;
      show(place, nearest(place));
      hold(false);
    });
    map.addEventListener("click", (event) => {
      const place = placeOf(event);
      const window = nearest(place);
      const again = held && String(window) === String(current);
      show(place, window);
      hold(!again);
    });

    /* Keys. */

    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -columns],
      End: [0, columns], PageUp: [-rows, 0], PageDown: [rows, 0] };
    map.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key in steps) {
        const [down, right] = steps[event.key];
        const window = [clamp(current[0] + down, rows - 1), clamp(current[1] + right, columns - 1)];
        find("said").textContent = show(center(window), window);
        hold(true);
      } else if (event.key === "Escape") {
        hold(false);
      } else if (/^\d$/.test(event.key)) {
        const choice = choices.find(({ value }) => value === (event.key === "0" ? "all" : event.key));
        if (!choice) return;
        choice.checked = true;
        choose();
      } else {
        return;
      }
      event.preventDefault();
    });

    map.setAttribute("role", "application");
    map.setAttribute("aria-roledescription", "map");
    map.setAttribute("aria-describedby", "keys");
    map.tabIndex = 0;
    const middle = [rows >> 1, columns >> 1];
    show(center(middle), middle);
    hold(false);
    find("held").textContent = "in the middle";
    map.classList.add("explored");
  }

  unpack().then(explore, (reason) => {
    for (const id of ["window", "keys"]) find(id).hidden = true; // an old browser: the rest of the page works
    console.warn(`No patterns of windows: ${reason}`);
  });
})();
