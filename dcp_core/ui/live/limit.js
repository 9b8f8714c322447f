// The limit of a Plotly chart: a line on the edge of the allowed region. It follows the limit's slider while that is dragged, and
// can be dragged by its number: the slider is set on release. Keyboards and screen readers use the slider.
//
// data: {chart, slider, low, high, step}; the first two are keys.

const EDGE = /H[-\d.]+/; // the right edge in the path of a rectangle

export default function ({ parentElement, data, setTriggerValue }) {
  const handle = parentElement.querySelector('i');
  handle.stop?.(); // Streamlit calls this function again with new data, without the cleanup of the call before
  const number = handle.querySelector('b');
  let dragged = null; // the value until the slider has it

  const parts = () => {
    const chart = document.querySelector(`.st-key-${data.chart} .js-plotly-plot`);
    const slider = document.querySelector(`.st-key-${data.slider} input[type=range]`);
    return chart?._fullLayout?.xaxis?._length && slider ? { chart, slider, x: chart._fullLayout.xaxis, y: chart._fullLayout.yaxis } : null;
  };
  const place = () => {
    const found = parts();
    handle.hidden = !found;
    if (!found) return;
    const { chart, slider, x, y } = found;
    const value = dragged ?? +slider.value;
    const at = x._offset + Math.min(x._length, Math.max(0, x.l2p(value)));
    const here = handle.parentElement.getBoundingClientRect();
    const there = chart.getBoundingClientRect();
    handle.style.left = `${there.x - here.x + at}px`;
    handle.style.top = `${there.y - here.y + y._offset}px`;
    handle.style.height = `${y._length}px`;
    number.textContent = `≤ ${+value.toFixed(2)}`;
    const region = chart.querySelector(`.shapelayer path[data-index="${chart._fullLayout.shapes.length - 1}"]`);
    region?.setAttribute('d', region.getAttribute('d').replace(EDGE, `H${at}`));
  };

  number.onpointerdown = (event) => {
    event.preventDefault();
    number.setPointerCapture(event.pointerId);
  };
  number.onpointermove = (event) => {
    const found = number.hasPointerCapture(event.pointerId) && parts();
    if (!found) return;
    const { chart, x } = found;
    const value = x.p2l(event.clientX - chart.getBoundingClientRect().x - x._offset);
    const steps = Math.round(Math.min(data.high, Math.max(data.low, value)) / data.step);
    dragged = +(steps * data.step).toFixed(9);
    place();
  };
  number.onpointerup = () => {
    if (dragged !== null) setTriggerValue('limit', dragged);
  };

  let asked = 0; // once a frame
  const watch = new MutationObserver((changes) => {
    if (changes.some(({ target }) => target.closest?.(`.st-key-${data.slider}`))) dragged = null; // the slider has it now
    cancelAnimationFrame(asked);
    asked = requestAnimationFrame(place);
  });
  watch.observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ['aria-valuetext', 'value'] });
  const sized = new ResizeObserver(place);
  sized.observe(document.body);
  place();
  handle.stop = () => {
    watch.disconnect();
    sized.disconnect();
  };
  return () => handle.stop();
}
