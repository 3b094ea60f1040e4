//! WBXML as readable XML, and back without loss.
//!
//! ```xml
//! <?xml version="1.0" encoding="utf-8"?>
//! <Sync xmlns="AirSync">
//!   <Collections>
//!     <Collection>
//!       <SyncKey>2</SyncKey>
//!       <Commands/>
//!     </Collection>
//!   </Collections>
//! </Sync>
//! ```
//!
//! A code page is a namespace, a token an element. Text between its tags is a string
//! (STR_I), exactly as it is; `<A></A>` holds the empty string and `<A/>` has no content, which on
//! the wire are not the same. In an element that has child elements, blanks and line breaks between
//! them are layout. A body without header, where elements stand side by side, is wrapped in
//! `<fragment>`, in no namespace.
//!
//! Everything that XML has no word for is said in the namespace `urn:x-wbxml`, here with the prefix
//! `w`. An ordinary ActiveSync message needs only the first of these:
//!
//! | notation | meaning |
//! |---|---|
//! | `w:opaque="base64"` on an element | its content is a byte array (OPAQUE), written in base64 |
//! | `w:text="base64"` on an element | its content is a string with characters that XML can't hold, written in base64 |
//! | `w:table="12"` on an element | its content is the string at place 12 of the string table (STR_T) |
//! | `w:octets="2"` on an element | the length or place before its content takes 2 bytes where 1 would do |
//! | `<w:data>` | a string, byte array or reference that is not the only content of its element; takes the four attributes above |
//! | `w:content="none"` on an element | its tag announces content, and its END follows at once |
//! | `w:switch="0 13"` on an element or `<w:data>` | the SWITCH_PAGEs before it, where they are not simply the one that is needed |
//! | `<w:switch pages="0 13"/>` | the same before an END |
//! | `<w:tag page="30" token="0x3F">` | an element that the code pages don't have |
//! | `w:header="030001056A…"` on the root | the message's header in hexadecimal, string table included, where it is not `03016A00` |

mod attributes;
mod decode;
mod encode;
mod lines;
mod notation;

pub use decode::decode_to_xml;
pub use encode::{EncodeError, EncodeErrorKind, encode_from_xml};
