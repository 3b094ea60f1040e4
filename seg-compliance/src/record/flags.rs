//! The facts that are true, false or not reported, two bits each.

/// A fact of two answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Flag {
    Managed,
    Compliant,
    Compromised,
    Encrypted,
    Profile,
    Passcode,
    Attested,
    Revoked,
}

impl Flag {
    pub(crate) const ALL: [Self; 8] = [
        Self::Managed,
        Self::Compliant,
        Self::Compromised,
        Self::Encrypted,
        Self::Profile,
        Self::Passcode,
        Self::Attested,
        Self::Revoked,
    ];

    /// Its name in a record.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Managed => "managed",
            Self::Compliant => "compliant",
            Self::Compromised => "compromised",
            Self::Encrypted => "encrypted",
            Self::Profile => "profile",
            Self::Passcode => "passcode",
            Self::Attested => "attested",
            Self::Revoked => "revoked",
        }
    }
}

/// All of them. Of each: 0 not reported, 1 false, 2 true.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flags(u16);

impl Flags {
    pub(crate) const fn get(self, flag: Flag) -> Option<bool> {
        match self.0 >> (flag as u8 * 2) & 3 {
            0 => None,
            1 => Some(false),
            _ => Some(true),
        }
    }

    pub(crate) fn set(&mut self, flag: Flag, value: Option<bool>) {
        let bits = value.map_or(0, |value| 1 + u16::from(value));
        let place = flag as u8 * 2;
        self.0 = self.0 & !(3 << place) | bits << place;
    }
}

impl std::fmt::Debug for Flags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let said = Flag::ALL.map(|flag| (flag.name(), self.get(flag)));
        f.debug_map().entries(said).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_has_three_states_of_its_own() {
        let mut flags = Flags::default();
        for value in [Some(true), Some(false), None] {
            for flag in Flag::ALL {
                let others = Flag::ALL.into_iter().filter(|other| *other != flag);
                let before: Vec<_> = others.clone().map(|other| flags.get(other)).collect();
                flags.set(flag, value);
                assert_eq!(flags.get(flag), value, "{flag:?}");
                assert_eq!(
                    others.map(|other| flags.get(other)).collect::<Vec<_>>(),
                    before
                );
            }
        }
        assert_eq!(flags, Flags::default());
    }
}
