/* Lets the page of an unmixing be asked. Without it, the page is complete. Text goes in as text, never as HTML. */
(() => {
  const data = JSON.parse(find("data").textContent);
  const map = find("map");
  const NO_NUMBER = 65535;

  const choose = choosable((chosen) => {
    for (const layer of map.querySelectorAll("[data-phase]")) layer.hidden = layer.dataset.phase !== chosen;
  });

  function parts(bytes) {
    const points = data.signal.reduce((a, b) => a * b);
    const signals = new Float32Array(bytes, 0, (data.components + (data.offset ? 1 : 0)) * points);
    const codes = new Uint16Array(bytes, signals.byteLength);
    return { points, signals, codes };
  }

  function explore({ points, signals, codes }) {
    const [rows, columns] = data.grid;
    const members = [...document.querySelectorAll(".memberships li")];
    const canvas = document.querySelector("#window canvas");
    const colors = canvas ? bytesOf(data.colors) : [];
    const first = data.offset ? 1 : 0;
    const center = (cell) => cell.map((i, axis) => Math.min((i + 0.5) * data.stride, data.map[axis] - 0.5));
    const nearest = (place) => place.map((p, axis) => clamp(Math.floor(p / data.stride), data.grid[axis] - 1));
    const number = (value) => (Number.isNaN(value) ? "none" : String(Number(value.toPrecision(3))));

    /** Abundances at a cell, and its residual; NaN where there is none. */
    function valuesAt([row, column]) {
      return data.ranges.map(([low, high], i) => {
        const code = codes[(i * rows + row) * columns + column];
        return code === NO_NUMBER ? NaN : low + ((high - low) * code) / (NO_NUMBER - 1);
      });
    }

    /** Where a cell is, on every axis of the map. */
    function where([row, column]) {
      let index = row * data.stride * data.map[1] + column * data.stride;
      const words = [];
      for (let axis = data.shape.length - 1; axis >= 0; axis--) {
        const { name, offset, scale, units } = data.axes[axis];
        const place = offset + scale * (index % data.shape[axis]);
        words.push(`${name} ${Number(place.toPrecision(5))}${units ? ` ${units}` : ""}`);
        index = Math.floor(index / data.shape[axis]);
      }
      return words.join(", ");
    }

    function show(place, cell) {
      const values = valuesAt(cell);
      const residual = values.pop();
      find("where").textContent = where(cell);
      find("sure").textContent = Number.isNaN(residual) ? "left out" : `residual ${number(residual)}`;
      members.forEach((item, i) => {
        const length = Math.min(Math.abs(values[i]) / data.top, 1);
        item.querySelector("i").style.width = `${Number.isNaN(length) ? 0 : 100 * length}%`;
        item.querySelector("b").textContent = number(values[i]);
      });
      mark(center(cell), [data.stride, data.stride]);
      const parts = values.map((value, i) => signal(first + i).map((point) => value * point));
      const sum = signal(0).map((point, j) => parts.reduce((total, part) => total + part[j], data.offset ? point : 0));
      if (canvas) draw(sum);
      else trace(parts, sum);
      return `${where(cell)}: ${values.map((value, i) => `component ${i + 1} ${number(value)}`).join(", ")}`;
    }

    function signal(i) {
      return signals.subarray(i * points, (i + 1) * points);
    }

    /** Spectra of the parts, filled, and their sum as a line; all on one scale. */
    function trace(parts, sum) {
      const all = [0, ...parts.flatMap((part) => [...part]), ...sum].filter(Number.isFinite);
      const [low, high] = all.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [0, 0]);
      const x = (j) => ((1000 * (j + 0.5)) / points).toFixed(1);
      const y = (value) => (290 - 280 * ((value - low) / (high - low || 1))).toFixed(1);
      const line = (values) => {
        let pen = "M";
        return [...values].map((value, j) => {
          if (!Number.isFinite(value)) {
            pen = "M";
            return "";
          }
          const step = `${pen}${x(j)} ${y(value)}`;
          pen = "L";
          return step;
        }).join("");
      };
      const path = (kind, d) => {
        const drawn = document.createElementNS("http://www.w3.org/2000/svg", "path");
        drawn.setAttribute("class", kind);
        drawn.setAttribute("d", d);
        return drawn;
      };
      find("spectrum").replaceChildren(
        path("zero", `M0 ${y(0)}L1000 ${y(0)}`),
        ...parts.map((part, i) => path(`part p${i + 1}`, line(part))),
        path("sum", line(sum)),
      );
    }

    /** A pattern, by the square root; scores may make it negative where noise is, which is black. */
    function draw(values) {
      const context = canvas.getContext("2d");
      const picture = context.createImageData(canvas.width, canvas.height);
      const high = values.filter(Number.isFinite).reduce((a, b) => Math.max(a, b), 0) || 1;
      values.forEach((value, i) => {
        const code = Number.isFinite(value) ? Math.round(255 * Math.sqrt(Math.max(value, 0) / high)) : 0;
        picture.data.set(colors.subarray(3 * code, 3 * code + 3), 4 * i);
        picture.data[4 * i + 3] = 255;
      });
      context.putImageData(picture, 0, 0);
    }

    askable({ map, size: data.map, grid: data.grid, nearest, center, show, choose });
  }

  unpack(data.bytes).then(parts).then(explore, unasked);
})();
