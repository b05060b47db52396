// The server's parse error, shown below the line it is about, with a caret under the column.

import { StateEffect, StateField, type Extension } from '@codemirror/state';
import { Decoration, EditorView, WidgetType, type DecorationSet } from '@codemirror/view';
import type { PositionedError } from '../lib/error_position';

export const showError = StateEffect.define<PositionedError | null>();

class ErrorWidget extends WidgetType {
  constructor(private readonly error: PositionedError) {
    super();
  }

  override eq(other: ErrorWidget): boolean {
    return other.error.offset === this.error.offset && other.error.message === this.error.message;
  }

  override toDOM(view: EditorView): HTMLElement {
    const box = document.createElement('div');
    box.className = 'cm-queryError';
    box.setAttribute('role', 'alert');
    const caret = box.appendChild(document.createElement('div'));
    caret.className = 'cm-queryErrorCaret';
    caret.textContent = '▲';
    caret.setAttribute('aria-hidden', 'true');
    const message = box.appendChild(document.createElement('div'));
    message.textContent = `${this.error.line}:${this.error.column}: ${this.error.message}`;
    // Measured, not counted in characters: long lines wrap, and glyphs may be wide.
    view.requestMeasure({
      read: () => {
        const line = view.state.doc.lineAt(Math.min(this.error.offset, view.state.doc.length));
        const at = view.coordsAtPos(Math.min(this.error.offset, line.to), this.error.offset >= line.to ? -1 : 1);
        if (at === null) return 0;
        return at.left - caret.getBoundingClientRect().left + (view.defaultCharacterWidth - caret.getBoundingClientRect().width) / 2;
      },
      write: (left) => {
        caret.style.left = `${Math.round(left)}px`;
      },
    });
    return box;
  }
}

const field = StateField.define<DecorationSet>({
  create: () => Decoration.none,
  update(decorations, transaction) {
    for (const effect of transaction.effects) {
      if (effect.is(showError)) {
        const error = effect.value;
        if (error === null) return Decoration.none;
        const length = transaction.state.doc.length;
        const offset = Math.min(error.offset, length);
        const line = transaction.state.doc.lineAt(offset);
        const marks = [Decoration.widget({ widget: new ErrorWidget(error), block: true, side: 1 }).range(line.to)];
        const from = offset < line.to ? offset : Math.max(line.from, offset - 1);
        const to = Math.min(line.to, from + 1);
        if (from < to) marks.unshift(Decoration.mark({ class: 'cm-queryErrorMark' }).range(from, to));
        return Decoration.set(marks, true);
      }
    }
    // An edited query is another query: what was wrong with the old one says nothing about it.
    return transaction.docChanged ? Decoration.none : decorations;
  },
  provide: (self) => EditorView.decorations.from(self),
});

export const errorMarker: Extension = field;
