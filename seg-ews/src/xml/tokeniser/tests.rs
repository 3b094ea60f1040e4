use super::*;
use crate::xml::Element;

#[derive(Default)]
struct Counted {
    text: usize,
}

impl Visitor for Counted {
    fn start(&mut self, _: &Element<'_>) -> Result<(), RejectKind> {
        Ok(())
    }
    fn text(&mut self, _: usize, text: &str) -> Result<(), RejectKind> {
        self.text += text.len();
        Ok(())
    }
    fn end(&mut self, _: usize) -> Result<(), RejectKind> {
        Ok(())
    }
}

#[test]
fn long_content_is_not_gathered() {
    let mut tokeniser = Tokeniser::new(Limits::default());
    let mut counted = Counted::default();
    let long = "x]-".repeat(1000);
    let mut feed = |text: &str| tokeniser.feed(text.as_bytes(), &mut counted).expect("fine");
    feed("<a>");
    for _ in 0..100 {
        feed(&long);
    }
    feed("<!-- ");
    for _ in 0..100 {
        feed(&long);
    }
    feed(" --><![CDATA[");
    for _ in 0..100 {
        feed(&long);
    }
    feed("]]></a>");
    assert_eq!(tokeniser.finish(), Ok(()));
    assert_eq!(counted.text, 2 * 100 * long.len());
    assert!(tokeniser.cutter.gathered.capacity() < 100);
}

#[test]
fn text_comes_whole_however_it_is_cut() {
    let text = "<a>x]]y&lt;<![CDATA[]]]]>z]</a>";
    for size in 1..text.len() {
        let mut tokeniser = Tokeniser::new(Limits::default());
        let mut counted = Counted::default();
        for piece in text.as_bytes().chunks(size) {
            tokeniser.feed(piece, &mut counted).expect("fine");
        }
        assert_eq!(tokeniser.finish(), Ok(()));
        assert_eq!(counted.text, "x]]y<]]z]".len(), "{size}");
    }
}
