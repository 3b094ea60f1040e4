//! The three calls of GSSAPI for which libgssapi has no safe form: credentials out of a named
//! keytab and ticket cache (`gss_acquire_cred_from`, MIT Kerberos), who a ticket is from, and the
//! place of the library's configuration. The only unsafe code of the gateway.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::path::Path;
use std::ptr;

use libgssapi::credential::Cred;
use libgssapi::error::{Error, MajorFlags};
use libgssapi_sys as sys;

/// GSS_KRB5_NT_PRINCIPAL_NAME, 1.2.840.113554.1.2.2.1.
const PRINCIPAL: [u8; 10] = *b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01";
/// The Kerberos 5 mechanism, 1.2.840.113554.1.2.2 (RFC 4121).
const KRB5: [u8; 9] = *b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";

/// What credentials are for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// To ask for tickets.
    Initiate,
    /// To take a client's ticket, and to go on in his name.
    Both,
}

/// Where the library reads its configuration from, for the rest of the process.
///
/// The caller must be the process's only thread.
pub(super) fn use_configuration(file: &Path) {
    // SAFETY: nobody else runs yet who could read the environment meanwhile; `run` calls this
    // before it starts a thread.
    unsafe { std::env::set_var("KRB5_CONFIG", file) };
}

/// The credentials of `principal` (`name@REALM`) out of a keytab. Tickets are kept in `ccache`.
pub(super) fn acquire(
    principal: &str,
    keytab: &str,
    ccache: &str,
    purpose: Purpose,
) -> Result<Cred, Error> {
    let bad_name = || Error {
        major: MajorFlags::GSS_S_BAD_NAME,
        minor: 0,
    };
    let text = |text: &str| CString::new(text).map_err(|_| bad_name());
    let values = [text(keytab)?, text(ccache)?, text(keytab)?];
    let keys = [c"client_keytab", c"ccache", c"keytab"];
    let mut elements = [0, 1, 2].map(|at: usize| sys::gss_key_value_element_desc {
        key: keys.get(at).map_or(ptr::null(), |key| key.as_ptr()),
        value: values.get(at).map_or(ptr::null(), |value| value.as_ptr()),
    });
    let (usage, count) = match purpose {
        Purpose::Initiate => (sys::GSS_C_INITIATE, 2),
        Purpose::Both => (sys::GSS_C_BOTH, 3),
    };
    let (mut principal_oid, mut krb5_oid) = (PRINCIPAL, KRB5);
    let mut name_type = oid(&mut principal_oid);
    let mut mechanism = oid(&mut krb5_oid);
    let mut mechanisms = sys::gss_OID_set_desc {
        count: 1,
        elements: &raw mut mechanism,
    };
    let store = sys::gss_key_value_set_desc {
        count,
        elements: elements.as_mut_ptr(),
    };
    let mut bytes = principal.as_bytes().to_vec();
    let mut buffer = sys::gss_buffer_desc {
        length: bytes.len(),
        value: bytes.as_mut_ptr().cast(),
    };
    let (mut minor, mut ignored) = (0, 0);
    let mut name: sys::gss_name_t = ptr::null_mut();
    let mut cred: sys::gss_cred_id_t = ptr::null_mut();
    // SAFETY: every pointer is to a live local, which outlives the calls; the library copies what
    // it keeps. `name` is released exactly once, and only where it was made.
    let major = unsafe {
        let major = sys::gss_import_name(&mut minor, &mut buffer, &mut name_type, &mut name);
        if major != sys::GSS_S_COMPLETE {
            return Err(error(major, minor));
        }
        let major = sys::gss_acquire_cred_from(
            &mut minor,
            name,
            sys::_GSS_C_INDEFINITE,
            &mut mechanisms,
            usage.cast_signed(),
            &store,
            &mut cred,
            ptr::null_mut(),
            ptr::null_mut(),
        );
        sys::gss_release_name(&mut ignored, &mut name);
        major
    };
    if major != sys::GSS_S_COMPLETE {
        return Err(error(major, minor));
    }
    // SAFETY: the call has succeeded: `cred` is a credential that nobody else owns.
    Ok(unsafe { Cred::from_c(cred) })
}

fn oid(bytes: &mut [u8]) -> sys::gss_OID_desc {
    sys::gss_OID_desc {
        length: u32::try_from(bytes.len()).unwrap_or(0),
        elements: bytes.as_mut_ptr().cast(),
    }
}

fn error(major: u32, minor: u32) -> Error {
    Error {
        major: MajorFlags::from_bits_retain(major),
        minor,
    }
}
