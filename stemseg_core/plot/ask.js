
"use strict";
/* What the maps of all reports have in common: they are asked by pointer and keys. */

const find = (id) => document.getElementById(id);
const clamp = (value, last) => Math.min(Math.max(value, 0), last);
const bytesOf = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

/** Bytes that were compressed and written as text. */
async function unpack(text) {
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/** Lets radio buttons choose what is shown; returns a function that chooses by value, false if there is no such. */
function choosable(show) {
  const choices = [...document.querySelectorAll("input[name=phase]")];
  const chosen = () => show(choices.find((choice) => choice.checked)?.value ?? "all");
  for (const choice of choices) choice.addEventListener("change", chosen);
  chosen();
  document.documentElement.classList.add("asked");
  return (value) => {
    const choice = choices.find((one) => one.value === value);
    if (choice) choice.checked = true;
    chosen();
    return Boolean(choice);
  };
}

/**
 * Lets a map be asked, which has cells in rows and columns: `nearest` is the cell [row, column] of a place [y, x] in
 * `size`, `center` the place of a cell, `show(place, cell)` says what is there, and returns it in words.
 */
function askable({ map, size: [height, width], grid: [rows, columns], nearest, center, show, choose }) {
  let current = null; // the cell that is shown
  let held = false;

  function ask(place, cell) {
    current = cell;
    return show(place, cell);
  }

  function hold(on) {
    held = on;
    map.classList.toggle("held", on);
    find("held").textContent = on ? "held, Esc lets go" : "under the pointer";
  }

  function placeOf(event) {
    const box = map.getBoundingClientRect();
    const along = (at, side, length) => clamp((at / side) * length, length * (1 - 1e-9));
    return [along(event.clientY - box.top, box.height, height), along(event.clientX - box.left, box.width, width)];
  }

  map.addEventListener("pointermove", (event) => {
    const place = placeOf(event);
    if (held) return;
    ask(place, nearest(place));
    hold(false);
  });
  map.addEventListener("click", (event) => {
    const place = placeOf(event);
    const cell = nearest(place);
    const again = held && String(cell) === String(current);
    ask(place, cell);
    hold(!again);
  });

  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -columns],
    End: [0, columns], PageUp: [-rows, 0], PageDown: [rows, 0] };
  map.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in steps) {
      const [down, right] = steps[event.key];
      const cell = [clamp(current[0] + down, rows - 1), clamp(current[1] + right, columns - 1)];
      find("said").textContent = ask(center(cell), cell);
      hold(true);
    } else if (event.key === "Escape") {
      hold(false);
    } else if (!/^\d$/.test(event.key) || !choose(event.key === "0" ? "all" : event.key)) {
      return;
    }
    event.preventDefault();
  });

  map.setAttribute("role", "application");
  map.setAttribute("aria-roledescription", "map");
  map.setAttribute("aria-describedby", "keys");
  map.tabIndex = 0;
  const middle = [rows >> 1, columns >> 1];
  ask(center(middle), middle);
  hold(false);
  find("held").textContent = "in the middle";
  map.classList.add("explored");
}

/** Puts the outline of a cell, `sides` [y, x] large, where its centre is. */
function mark([y, x], sides) {
  find("marker").setAttribute("visibility", "visible");
  for (const outline of find("marker").children) {
    outline.setAttribute("x", x - sides[1] / 2);
    outline.setAttribute("y", y - sides[0] / 2);
    outline.setAttribute("width", sides[1]);
    outline.setAttribute("height", sides[0]);
  }
}

/** Old browsers cannot unpack: the rest of the page works. */
function unasked(reason) {
  for (const id of ["window", "keys"]) find(id).hidden = true;
  console.warn(`Nothing can be asked: ${reason}`);
}
