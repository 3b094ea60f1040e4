//! How an input becomes another one. `mutatis` chooses among all candidates with a seeded generator;
//! what it knows of bytes is its own, what is known of our inputs (other inputs, words of the
//! protocols, repetition, which finds what is quadratic or recursive) is added here.

use mutatis::mutators::Vec as AnyBytes;
use mutatis::{Candidates, Context, DefaultMutate, Mutate, Result, Session};

/// Longer inputs are cut: what is long is slow and finds little more.
const LONGEST: usize = 32 * 1024;

/// Most repetitions of a range in one mutation.
const MOST_COPIES: usize = 600;

/// Mutations on top of each other: from 1 to this many.
const MOST_STEPS: usize = 6;

/// What the decoders look for, in any of them.
const WORDS: [&[u8]; 34] = [
    b"\0",
    b"\x01",
    b"\x03",
    b"\xC3",
    b"\x00\x00",
    b"\x00\x0E",
    b"\x00\x11",
    b"\x7F",
    b"\x80",
    b"\xFF\xFF\xFF\xFF\x7F",
    b"\xFF\xFE",
    b"\xEF\xBB\xBF",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\t",
    b"--",
    b"\"",
    b"<",
    b">",
    b"/>",
    b"&amp;",
    b"&#x41;",
    b"]]>",
    b"<!--",
    b"-->",
    b"=?utf-8?q?",
    b"?=",
    b"http://",
    b"%41",
    b"%00",
    b"NTLM",
    b"Negotiate",
    b",",
];

/// Inputs without end, from a corpus and a seed.
pub struct Inputs<'a> {
    session: Session,
    mutator: Mutator<'a>,
}

impl<'a> Inputs<'a> {
    /// The inputs that follow from `corpus` and `seed`: always the same.
    #[must_use]
    pub fn new(corpus: &'a [Vec<u8>], seed: u64) -> Self {
        Self {
            session: Session::new().seed(seed),
            mutator: Mutator {
                corpus,
                bytes: AnyBytes::default(),
            },
        }
    }

    /// The next input: one of the corpus, mutated some times. `None` where nothing can be mutated.
    pub fn draw(&mut self) -> Option<Vec<u8>> {
        let mut choice = Choice::default();
        self.session
            .mutate_with(&mut Draw(self.mutator.corpus.len()), &mut choice)
            .ok()?;
        let mut input = self.mutator.corpus.get(choice.base)?.clone();
        for _ in 0..choice.steps {
            self.session
                .mutate_with(&mut self.mutator, &mut input)
                .ok()?;
            input.truncate(LONGEST);
        }
        Some(input)
    }
}

/// With which input of the corpus is begun, and how many mutations follow.
#[derive(Default)]
struct Choice {
    base: usize,
    steps: usize,
}

/// Draws a [`Choice`] out of a corpus of that many inputs.
struct Draw(usize);

impl Mutate<Choice> for Draw {
    fn mutate(&mut self, candidates: &mut Candidates<'_>, choice: &mut Choice) -> Result<()> {
        candidates.mutation(|context| {
            choice.base = index(context, self.0);
            choice.steps = 1 + index(context, MOST_STEPS);
            Ok(())
        })
    }
}

struct Mutator<'a> {
    corpus: &'a [Vec<u8>],
    bytes: AnyBytes<<u8 as DefaultMutate>::DefaultMutate>,
}

impl Mutate<Vec<u8>> for Mutator<'_> {
    fn mutate(&mut self, candidates: &mut Candidates<'_>, input: &mut Vec<u8>) -> Result<()> {
        // A candidate is as likely as another, and each byte is one to `mutatis`: ours are offered
        // as often as there are bytes, by turns.
        let turns = input.len() / KINDS.len() + 1;
        for kind in KINDS.iter().cycle().take(turns * KINDS.len()) {
            candidates.mutation(|context| {
                kind(context, self.corpus, input);
                Ok(())
            })?;
        }
        self.bytes.mutate(candidates, input)
    }
}

/// One way of changing an input, given the corpus.
type Kind = fn(&mut Context, &[Vec<u8>], &mut Vec<u8>);

const KINDS: [Kind; 5] = [remove, repeat, insert_word, overwrite_word, splice];

fn remove(context: &mut Context, _: &[Vec<u8>], input: &mut Vec<u8>) {
    let range = range(context, input.len());
    input.drain(range);
}

fn repeat(context: &mut Context, _: &[Vec<u8>], input: &mut Vec<u8>) {
    let range = range(context, input.len());
    let most = MOST_COPIES.min(LONGEST / range.len().max(1)).max(1);
    let copies = match index(context, 4) {
        0 => 1 + index(context, most),
        _ => 1,
    };
    let piece = input.get(range.clone()).unwrap_or_default().repeat(copies);
    input.splice(range.end..range.end, piece);
}

fn insert_word(context: &mut Context, _: &[Vec<u8>], input: &mut Vec<u8>) {
    let at = index(context, input.len() + 1);
    input.splice(at..at, word(context).iter().copied());
}

fn overwrite_word(context: &mut Context, _: &[Vec<u8>], input: &mut Vec<u8>) {
    let at = index(context, input.len() + 1);
    let word = word(context);
    let end = input.len().min(at + word.len());
    input.splice(at..end, word.iter().copied());
}

/// A range of another input in the place of a range of this one.
fn splice(context: &mut Context, corpus: &[Vec<u8>], input: &mut Vec<u8>) {
    let other = index(context, corpus.len());
    let Some(other) = corpus.get(other) else {
        return;
    };
    let from = range(context, other.len());
    let to = range(context, input.len());
    input.splice(to, other.get(from).unwrap_or_default().iter().copied());
}

fn word(context: &mut Context) -> &'static [u8] {
    let at = index(context, WORDS.len());
    WORDS.get(at).copied().unwrap_or_default()
}

/// A range within `length`, short ones more often than long ones.
fn range(context: &mut Context, length: usize) -> std::ops::Range<usize> {
    let start = index(context, length + 1);
    let most = match index(context, 3) {
        0 => length - start,
        1 => 64.min(length - start),
        _ => 4.min(length - start),
    };
    start..start + index(context, most + 1)
}

/// A number below `length`; 0 where there is none.
fn index(context: &mut Context, length: usize) -> usize {
    context.rng().gen_index(length).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_inputs_again_and_another_seed_others() {
        let corpus = vec![b"<a><b>text</b></a>".to_vec(), vec![3, 1, 0x6A, 0, 0x45, 1]];
        let draw = |seed| {
            let mut inputs = Inputs::new(&corpus, seed);
            let drawn: Option<Vec<_>> = (0..200).map(|_| inputs.draw()).collect();
            drawn.expect("an input")
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn inputs_differ_are_bounded_and_keep_something_of_the_corpus() {
        let corpus = vec![b"a beginning that is known, and more behind it".to_vec()];
        let mut inputs = Inputs::new(&corpus, 1);
        let drawn: Vec<_> = (0..2_000).filter_map(|_| inputs.draw()).collect();
        assert_eq!(drawn.len(), 2_000);
        let different: std::collections::BTreeSet<_> = drawn.iter().collect();
        assert!(different.len() > 1_500, "{}", different.len());
        assert!(drawn.iter().all(|input| input.len() <= LONGEST));
        let kept = drawn
            .iter()
            .filter(|input| input.starts_with(b"a beginning"));
        assert!(kept.count() > 200);
        assert!(drawn.iter().any(|input| input.len() > 1_000));
    }

    #[test]
    fn nothing_at_all_is_mutated_as_well() {
        let corpus = vec![Vec::new()];
        let mut inputs = Inputs::new(&corpus, 3);
        assert!((0..500).all(|_| inputs.draw().is_some()));
    }
}
