// The values under the chart's cursor. Plain DOM, because it changes with every movement of the pointer.

import { localDateTime } from '../lib/time_range';

export interface TooltipLine {
  readonly name: string;
  readonly color: string;
  readonly value: number;
  readonly text: string;
  /** Pixels between the line and the pointer. */
  readonly distance: number;
  readonly focused: boolean;
}

const LINES_MAX = 8;
const GAP_PIXELS = 16;

export class ChartTooltip {
  private readonly box: HTMLElement;

  constructor(host: HTMLElement) {
    this.box = document.createElement('div');
    this.box.className = 'tooltip';
    this.box.hidden = true;
    host.append(this.box);
  }

  show(at: { time: number; lines: readonly TooltipLine[]; left: number; top: number; width: number }): void {
    const nearest = [...at.lines].sort((a, b) => a.distance - b.distance).slice(0, LINES_MAX);
    const shown = nearest.sort((a, b) => b.value - a.value);
    const heading = element('div', 'tooltip-time', localDateTime(at.time));
    const rows = shown.map((line) => {
      const row = element('div', line.focused ? 'tooltip-row focused' : 'tooltip-row');
      const swatch = element('span', 'swatch');
      swatch.style.backgroundColor = line.color;
      row.append(swatch, element('span', 'tooltip-name clamped', line.name), element('span', 'tooltip-value', line.text));
      return row;
    });
    const more = at.lines.length - shown.length;
    if (more > 0) rows.push(element('div', 'tooltip-more', `and ${more} more`));
    if (at.lines.length === 0) rows.push(element('div', 'tooltip-more', 'nothing to draw here'));
    this.box.replaceChildren(heading, ...rows);
    this.box.hidden = false;
    this.place(at);
  }

  hide(): void {
    this.box.hidden = true;
  }

  destroy(): void {
    this.box.remove();
  }

  /** Beside the pointer, on the side with more room, always inside the chart. */
  private place(at: { left: number; top: number; width: number }): void {
    const width = this.box.offsetWidth;
    const right = at.left + GAP_PIXELS;
    const left = right + width <= at.width ? right : at.left - GAP_PIXELS - width;
    this.box.style.left = `${Math.round(Math.min(Math.max(0, left), Math.max(0, at.width - width)))}px`;
    this.box.style.top = `${Math.round(Math.max(0, at.top - this.box.offsetHeight / 2))}px`;
  }
}

function element(tag: string, className: string, text?: string): HTMLElement {
  const node = document.createElement(tag);
  node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}
