/* Lets the page be asked. Without it, the page is complete. Text goes in as text, never as HTML. */
(() => {
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

  const choose = choosable((chosen) => {
    const away = (phases) => chosen !== "all" && !phases.split(" ").includes(chosen);
    for (const layer of map.querySelectorAll("[data-phase]")) layer.hidden = away(layer.dataset.phase);
    for (const path of map.querySelectorAll("[data-phases]")) {
      path.setAttribute("visibility", away(path.dataset.phases) ? "hidden" : "visible");
    }
  });

  /* What is stored of pixels and windows. */

  function parts(bytes) {
    const nPixels = data.labels[0] * data.labels[1];
    const nNumbers = rows * columns * (data.phases + 2);
    return {
      labels: new Uint16Array(bytes, 0, nPixels),
      numbers: new Uint8Array(bytes, 2 * nPixels, nNumbers),
      patterns: new Uint8Array(bytes, 2 * nPixels + nNumbers),
    };
  }

  function explore({ labels, numbers, patterns }) {
    const center = ([row, column]) => [data.first[0] + row * data.step[0] + 0.5, data.first[1] + column * data.step[1] + 0.5];
    const decimals = data.pixel.map((size) => (data.calibrated ? clamp(Math.ceil(-Math.log10(size)), 20) : 0));
    const length = (pixels, axis) =>
      (data.calibrated ? pixels * data.pixel[axis] : Math.floor(pixels)).toFixed(decimals[axis]);
    const share = (percent) => (percent === NO_NUMBER ? "none" : (percent / 100).toFixed(2));
    const colors = bytesOf(data.colors);
    const members = [...document.querySelectorAll(".memberships li")];
    const canvas = document.querySelector("#window canvas");

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
      const [row, column] = window;
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
      mark(center(window), data.window);
      if (canvas) {
        draw(row * columns + column);
        const card = phase && document.querySelector(`.card[data-phase="${phase}"] img`);
        find("of-phase").replaceChildren(...(card ? [card.cloneNode()] : []));
        find("which").textContent = phase ? `mean of ${name}` : "";
      }
      return `${where}: ${name}, confidence ${share(confidence)}`;
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

    askable({ map, size: data.image, grid: data.grid, nearest, center, show, choose });
  }

  unpack(data.bytes).then(parts).then(explore, unasked);
})();
