// Pictures that follow the page's sliders while they are dragged. Nothing is computed here: every quantity comes from the
// server as a table with a row for each value of each slider, and is looked up, or interpolated between two rows.
//
// data.sliders: {key of a slider: {now, values}}; `now` is what the server has drawn.
// data.panels:  [{kind, ...}], see panels.py. A quantity is {now, tables: {key of a slider: rows}}.

const SVG = 'http://www.w3.org/2000/svg';

export default function ({ parentElement, data }) {
  const root = parentElement.querySelector('.live');
  root.stop?.(); // Streamlit calls this function again with new data, without the cleanup of the call before
  const place = root.querySelector('.panels');
  place.replaceChildren();
  root.querySelector('.announcement').textContent = data.announcement; // read out once, when the server has answered
  const updates = data.panels.map((panel) => PANELS[panel.kind](place, panel));
  const sliders = new Map(Object.keys(data.sliders).map((key) => [`st-key-${key}`, key]));

  let moved = null;
  const keyOf = (input) => {
    const holder = input.closest?.('[class*="st-key-"]');
    return holder && sliders.get([...holder.classList].find((name) => sliders.has(name)));
  };
  const draw = ({ resized = false } = {}) => {
    const at = moved && position(data.sliders[moved.key], +moved.input.value);
    const read = (quantity) => {
      const table = at && quantity.tables[moved.key];
      return table ? mix(table[at.row], table[at.row + 1], at.part) : quantity.now;
    };
    place.classList.toggle('outside', Boolean(at ? at.outside : data.outside));
    updates.forEach((update) => update(read, resized));
  };
  // A slider tells its value to screen readers at every move: once a frame, as the browser sends the pointer's moves once a
  // frame. The picture is drawn at once, so both are shown by the same frame. The page may replace a slider at any time.
  const follow = (changes) => {
    const before = moved;
    for (const { target } of changes) {
      const key = keyOf(target);
      if (key) moved = { key, input: target };
    }
    if (moved !== before) draw();
  };
  const watch = new MutationObserver(follow);
  watch.observe(document.body, { subtree: true, attributes: true, attributeFilter: ['aria-valuetext', 'value'] });
  for (const [name, key] of sliders) {
    const input = document.querySelector(`.${name} input[type=range]`); // one that is being dragged while data arrive
    if (input && Math.abs(+input.value - data.sliders[key].now) > 1e-9) moved = { key, input };
  }
  const sized = new ResizeObserver(() => draw({ resized: true }));
  sized.observe(root);
  draw();
  root.stop = () => {
    watch.disconnect();
    sized.disconnect();
  };
  return () => root.stop();
}

/** Where a value lies in a slider's table: {row, part}, part of the way to the next row, and whether it lies outside of the
 *  table, of which the nearest row is then taken; null for the server's own value. */
function position({ now, values }, value) {
  if (Math.abs(value - now) < 1e-9) return null;
  let row = values.findIndex((each) => each >= value - 1e-9);
  if (row < 0 || (row === 0 && value < values[0] - 1e-9)) return { row: row < 0 ? values.length - 1 : 0, part: 0, outside: true };
  if (row === 0 || Math.abs(values[row] - value) < 1e-9) return { row, part: 0 };
  return { row: row - 1, part: (value - values[row - 1]) / (values[row] - values[row - 1]) };
}

function mix(before, after, part) {
  if (part === 0 || after === undefined) return before;
  if (Array.isArray(before)) return before.map((value, k) => mix(value, after[k], part));
  if (typeof before === 'number') return before + part * (after - before);
  return part < 0.5 ? before : after;
}

function add(parent, tag, { text, ...attributes } = {}) {
  const made = document.createElementNS(parent instanceof SVGElement || tag === 'svg' ? SVG : 'http://www.w3.org/1999/xhtml', tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text; // names are never markup
  parent.append(made);
  return made;
}

const shown = (value, digits) => (typeof value === 'number' ? value.toFixed(digits) : value);
const stretch = (bar, share) => { bar.style.transform = `scaleX(${Math.min(1, Math.max(0, share))})`; };

const PANELS = {
  sentence(place, panel) {
    const line = add(place, 'p', { class: 'sentence' });
    return (read) => { line.textContent = panel.texts[Math.round(read(panel.value))]; };
  },

  gauge(place, panel) {
    const box = add(place, 'div', { class: 'gauge', title: panel.help });
    add(box, 'span', { text: panel.label });
    const meter = add(box, 'div', {
      class: 'meter', role: 'meter', 'aria-label': panel.label, 'aria-valuemin': 0, 'aria-valuemax': panel.max,
    });
    const bar = add(meter, 'i');
    const number = add(box, 'b');
    const scale = add(box, 'div', { class: 'scale', 'aria-hidden': true });
    for (const tick of [0, panel.max / 2, panel.max]) add(scale, 'span', { text: tick });
    return (read) => {
      const value = read(panel.value);
      stretch(bar, value / panel.max);
      number.textContent = value.toFixed(3);
      meter.setAttribute('aria-valuenow', value.toFixed(3));
    };
  },

  tiles(place, panel) {
    const box = add(place, 'div', { class: 'tiles' });
    const numbers = panel.tiles.map((tile) => {
      const each = add(box, 'div', { class: 'tile', title: tile.help });
      add(each, 'span', { text: tile.label });
      const number = add(each, 'b');
      add(each, 'small', { text: tile.note });
      return number;
    });
    return (read) => panel.tiles.forEach((tile, k) => {
      const value = tile.texts ? tile.texts[Math.round(read(tile.value))] : read(tile.value);
      numbers[k].textContent = shown(value, tile.digits) + tile.unit;
    });
  },

  bars(place, panel) {
    const box = add(place, 'div', { class: 'bars', role: 'img', 'aria-label': panel.alt });
    add(box, 'span');
    add(box, 'span', { class: 'head', text: panel.before });
    add(box, 'span', { class: 'head', text: panel.after });
    const track = (kind) => add(add(box, 'div', { class: `track ${kind}` }), 'i');
    const best = panel.clean.indexOf(Math.max(...panel.clean));
    const rows = panel.classes.map((name, k) => {
      add(box, 'span', { class: 'name', text: name, title: name });
      stretch(track('clean'), panel.clean[k] / panel.scale);
      const star = k === best ? '★ ' : '';
      add(box, 'span', { class: `number${star && ' top'}`, text: star + panel.clean[k].toFixed(3) });
      const bar = track('defended');
      add(bar.parentElement, 's', { style: `left: ${100 * panel.clean[k] / panel.scale}%` });
      return { bar, number: add(box, 'span', { class: 'number' }) };
    });
    return (read) => {
      const values = read(panel.value);
      const top = values.indexOf(Math.max(...values.slice(0, panel.named)));
      rows.forEach(({ bar, number }, k) => {
        stretch(bar, values[k] / panel.scale);
        number.textContent = (k === top ? '★ ' : '') + values[k].toFixed(3);
        number.className = k === top ? 'number top' : 'number';
      });
    };
  },

  levels(place, panel) {
    const box = add(place, 'div', { class: 'levels', role: 'img', 'aria-label': panel.alt });
    const rows = panel.rows.map(([name, color]) => {
      add(box, 'span', { class: 'name', text: name });
      const bar = add(add(box, 'div', { class: 'track' }), 'i', { style: `background: ${color}` });
      return { bar, number: add(box, 'b') };
    });
    return (read) => read(panel.value).forEach((value, k) => {
      stretch(rows[k].bar, value / panel.max);
      rows[k].number.textContent = `${value.toFixed(1)} %`;
    });
  },

  plot(place, panel) {
    const picture = add(place, 'svg', { role: 'img', 'aria-label': panel.alt, height: panel.height * large() });
    let width, places;
    return (read, resized) => {
      if (resized || !places) { // not at every move: to ask for the width makes the browser lay out the whole page
        const now = picture.clientWidth || 300;
        if (now !== width) places = axes(picture, panel, now);
        width = now;
      }
      const { across, up } = places;
      const path = ([x, y]) => 'M' + x.map((value, k) => `${across(value).toFixed(1)} ${up(y[k]).toFixed(1)}`).join('L');
      if (panel.moving) picture.querySelector('.moving').setAttribute('d', path([panel.moving.x, read(panel.moving.y)]));
      const [x, y] = read(panel.points);
      picture.querySelectorAll('.point').forEach((point, k) => {
        point.setAttribute('cx', across(x[k]));
        point.setAttribute('cy', up(y[k]));
      });
    };
  },
};

/** How much larger text is than usual: on a projector. */
const large = () => parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;

/** Where a text lies over no other: the first free height above its own, or else below it; its own if all are taken. */
function freeHeight(text, others, highest, lowest, em) {
  const span = ({ x, text, 'text-anchor': at }) => {
    const width = 8 * em * text.length;
    return at === 'start' ? [x, x + width] : [x - width, x];
  };
  const [from, to] = span(text);
  const beside = others.filter((other) => span(other)[0] < to && span(other)[1] > from);
  const free = (y) => beside.every((other) => Math.abs(other.y - y) >= 16 * em);
  for (let y = text.y; y >= highest; y -= 4) if (free(y)) return y;
  for (let y = text.y; y <= lowest; y += 4) if (free(y)) return y;
  return text.y;
}

/** Draw what does not move: axes, lines and the points' elements; gives the positions of values in pixels. */
function axes(picture, panel, width) {
  picture.replaceChildren();
  const { x, y } = panel;
  const em = large();
  const height = panel.height * em;
  const left = (14 + 8 * Math.max(...y.ticks.map(([, text]) => text.length))) * em;
  const right = width - 12 * em;
  const low = height - 44 * em;
  const across = (value) => left + (right - left) * (value - x.low) / (x.high - x.low);
  const up = (value) => low - (low - 28 * em) * (value - y.low) / (y.high - y.low);
  for (const [at, text] of y.ticks) {
    add(picture, 'line', { class: 'grid', x1: left, x2: right, y1: up(at), y2: up(at) });
    add(picture, 'text', { x: left - 6, y: up(at) + 5, 'text-anchor': 'end', text });
  }
  for (const [at, text] of x.ticks) add(picture, 'text', { x: across(at), y: low + 18 * em, 'text-anchor': 'middle', text });
  add(picture, 'line', { class: 'axis', x1: left, x2: right, y1: low, y2: low });
  add(picture, 'text', { x: (left + right) / 2, y: height - 6, 'text-anchor': 'middle', text: x.title });
  const title = { x: 0, y: 16 * em, 'text-anchor': 'start', text: y.title };
  const names = [title];
  const path = (points) => 'M' + points.map(([a, b]) => `${across(a).toFixed(1)} ${up(b).toFixed(1)}`).join('L');
  for (const line of panel.lines) {
    if (line.band) add(picture, 'path', { d: `${path(line.band)}Z`, style: `fill: ${line.color}; opacity: .18; stroke: none` });
    add(picture, 'path', { d: path(line.points), style: `stroke: ${line.color}; stroke-dasharray: ${line.dash}` });
    const [a, b] = line.points.at(line.at === 'start' ? 0 : -1);
    if (!line.name) continue;
    const name = { x: across(a) + (line.at === 'start' ? 4 : -4), y: up(b) - 6, 'text-anchor': line.at, text: line.name };
    names.push({ ...name, y: freeHeight(name, names, title.y, low, em) });
  }
  for (const name of names) add(picture, 'text', name); // over all lines
  if (panel.moving) add(picture, 'path', { class: 'moving', style: `stroke: ${panel.moving.color}` });
  panel.points.now[0].forEach((_, k) => {
    const point = add(picture, 'circle', { class: 'point', r: panel.radius });
    if (panel.names) add(point, 'title', { text: panel.names[k] });
  });
  return { across, up };
}
