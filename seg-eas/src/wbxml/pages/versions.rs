//! The version columns of MS-ASWBXML, by name.

use super::Versions;
use crate::ProtocolVersion;

const V2_5: u8 = 1;
const V12_0: u8 = 1 << 1;
const V12_1: u8 = 1 << 2;
const V14_0: u8 = 1 << 3;
const V14_1: u8 = 1 << 4;
const V16_0: u8 = 1 << 5;
const V16_1: u8 = 1 << 6;

/// The versions that the specification distinguishes, and the bit of each.
pub(super) const NUMBERED: [(ProtocolVersion, u8); 7] = [
    (ProtocolVersion::V2_5, V2_5),
    (ProtocolVersion::V12_0, V12_0),
    (ProtocolVersion::V12_1, V12_1),
    (ProtocolVersion::V14_0, V14_0),
    (ProtocolVersion::V14_1, V14_1),
    (ProtocolVersion::V16_0, V16_0),
    (ProtocolVersion::V16_1, V16_1),
];

pub(super) const LEGACY: Versions = Versions(0);
pub(super) const ALL: Versions = Versions(V2_5 | FROM_12_0.0);
pub(super) const FROM_12_0: Versions = Versions(V12_0 | FROM_12_1.0);
pub(super) const FROM_12_1: Versions = Versions(V12_1 | FROM_14_0.0);
pub(super) const FROM_14_0: Versions = Versions(V14_0 | FROM_14_1.0);
pub(super) const FROM_14_1: Versions = Versions(V14_1 | FROM_16_0.0);
pub(super) const FROM_16_0: Versions = Versions(V16_0 | FROM_16_1.0);
pub(super) const FROM_16_1: Versions = Versions(V16_1);
pub(super) const TO_12_1: Versions = Versions(V2_5 | V12_0 | V12_1);
pub(super) const TO_14_1: Versions = Versions(TO_12_1.0 | V14_0 | V14_1);
pub(super) const FROM_12_0_TO_16_0: Versions = Versions(V12_0 | FROM_12_1_TO_16_0.0);
pub(super) const FROM_12_1_TO_16_0: Versions = Versions(V12_1 | V14_0 | V14_1 | V16_0);
