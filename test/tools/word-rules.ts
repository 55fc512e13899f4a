/** The rules for prose and names that a tool can hold. A reader judges the rest. */

import type { Prose } from './prose.ts';

export const MAX_WORDS_OF_SENTENCE = 25;
export const MAX_COMMENT_COLUMNS = 120;

/** Words that no sentence begins with: the reader would have to wait for the subject. */
const NO_BEGINNINGS = ['Who', 'Whoever', 'Whatever', 'What', 'Of', 'So', 'Nor', 'Else'];

/** Words of a private English, each with plain words instead. */
export const PLAIN_WORDS: readonly (readonly [pattern: RegExp, instead: string])[] = [
  [/\bwhoever\b/i, 'name the actor'],
  [/\bwho (?:wants|asks|comes|reads|waits|serves|has)\b/i, 'name the actor'],
  [/\b(?:is|are|was|were|be|been) told\b/i, 'is reported, receives'],
  [/\b(?:hears?|heard) (?:of|about|nothing)\b/i, 'receives'],
  [/\b(?:believes?|believed) in\b/i, 'counts, trusts'],
  [/\b(?:is|are|was) none\b/i, 'is not valid, does not exist'],
  [/\b(?:goes|went|gone|going) away\b/i, 'is deleted, is terminating, ends'],
  [/\bis away\b/i, 'does not answer, is missing'],
  [/\bnameless\b/i, 'orphaned'],
  [/\blast word\b/i, 'final status'],
  [/\b(?:rooms|doors?)\b/i, 'layer, allowed dependency'],
  [/\bthereby\b|\bwherein\b|\bwhereof\b|\bthereof\b|\bthat of\b/i, 'repeat the noun'],
  [/\bbe it\b/i, 'whether'],
];

/** Parts of names that have one standard word each, by the glossary of docs/architecture.md. */
export const NAME_WORDS: readonly (readonly [pattern: RegExp, instead: string])[] = [
  [/^(?:LONGEST|MOST|LARGEST|HIGHEST|GREATEST)_/, 'MAX_'],
  [/^(?:LEAST|SHORTEST|SMALLEST|LOWEST|FEWEST)_/, 'MIN_'],
  [/stretch/i, 'extent'],
  [/(?<![a-z])spans?(?![a-z])|Spans?(?![a-z])/, 'extent, range'],
  [/nameless/i, 'orphaned'],
  [/lastWord/i, 'finalStatus'],
  [/illness|unreadiness/i, 'livenessProblem, readinessProblem'],
  [/breach/i, 'FieldError, violation'],
  [/(?<!key|dash)board(?!er)/i, 'exportRegistry'],
  [/isGoing/, 'isTerminating'],
  [/endCheck|completeness/i, 'truncationCheck'],
  [/placedRun/i, 'fileExtent'],
  [/whoever|hearsOf|tells?(?=[A-Z]|$)/, 'report, record'],
];

/** Yields one text for each violation in the prose. */
export function* wordProblems({ kind, text }: Prose): Generator<string> {
  for (const sentence of sentencesOf(text)) {
    const beginning = NO_BEGINNINGS.find((word) => new RegExp(`^${word}\\b`, kind === 'test-name' ? 'i' : '').test(sentence));
    if (beginning !== undefined) yield `a sentence begins with "${beginning}"; name the actor first: "${shortened(sentence)}"`;
    const count = sentence.replace(/\s*\([^()]*\)/g, '').split(/\s+/).length;
    if (count > MAX_WORDS_OF_SENTENCE) yield `a sentence has ${count} words, more than ${MAX_WORDS_OF_SENTENCE}: "${shortened(sentence)}"`;
    for (const [pattern, instead] of PLAIN_WORDS) {
      const found = pattern.exec(sentence)?.[0];
      if (found !== undefined) yield `"${found}": say ${instead}: "${shortened(sentence)}"`;
    }
  }
}

function shortened(sentence: string): string {
  return sentence.length > 90 ? `${sentence.slice(0, 90)}...` : sentence;
}

/** Sentences, clauses behind a colon or semicolon, items of lists and tags such as `@param` count by themselves. */
function sentencesOf(text: string): string[] {
  const prose = text.replace(/```[\s\S]*?```/g, '').replace(/`[^`]*`/g, 'CODE');
  return prose
    .split(/(?<=[.!?;:])[)"']?\s+|\n\s*\n|\n\s*(?=[-*|] )|\n\s*(?=\d+\. )|(?=@(?:param|returns|throws|see)\b)/)
    .map((sentence) =>
      sentence
        .replace(/^[-*(]\s*/, '')
        .replace(/\s+/g, ' ')
        .trim(),
    )
    .filter((sentence) => sentence !== '');
}
