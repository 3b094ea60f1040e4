//! What the phones of the load say, byte for byte.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use seg_bench::Failure;
use seg_eas::wbxml::text::encode_from_xml;

/// Who all the phones belong to: one of the sandbox's people.
pub(crate) const USER: &str = "alice@sandbox.example";
const PASSWORD: &str = "Secret-alice-1";
/// Longer than any run, shorter than the gateway's longest poll.
const HEARTBEAT_SECONDS: u32 = 3000;

/// The bodies of the three requests, in WBXML.
pub(crate) struct Bodies {
    sync: Vec<u8>,
    ping: Vec<u8>,
    fetch: Vec<u8>,
}

impl Bodies {
    pub(crate) fn new() -> Result<Self, Failure> {
        let bodies = Self {
            sync: encode_from_xml(
                "<Sync xmlns='AirSync'><Collections><Collection><SyncKey>123</SyncKey>\
                 <CollectionId>5</CollectionId></Collection></Collections></Sync>",
            )?,
            ping: encode_from_xml(&format!(
                "<Ping xmlns='Ping'><HeartbeatInterval>{HEARTBEAT_SECONDS}</HeartbeatInterval>\
                 <Folders><Folder><Id>5</Id><Class>Email</Class></Folder></Folders></Ping>"
            ))?,
            fetch: encode_from_xml(
                "<ItemOperations xmlns='ItemOperations'><Fetch><Store>Mailbox</Store>\
                 <FileReference xmlns='AirSyncBase'>5%3a2%3a0</FileReference></Fetch></ItemOperations>",
            )?,
        };
        Ok(bodies)
    }

    /// A Sync: 22 bytes there, 2,048 back.
    pub(crate) fn sync(&self, device: usize) -> Vec<u8> {
        post("Sync", device, &self.sync)
    }

    /// A long poll that outlasts the run.
    pub(crate) fn ping(&self, device: usize) -> Vec<u8> {
        post("Ping", device, &self.ping)
    }

    /// A Fetch that is answered with 25 MiB.
    pub(crate) fn fetch(&self, device: usize) -> Vec<u8> {
        post("ItemOperations", device, &self.fetch)
    }
}

/// A GetFolder as a mail program sends it, answered with a folder.
pub(crate) fn get_folder() -> Vec<u8> {
    soap(
        "<m:GetFolder><m:FolderShape><t:BaseShape>Default</t:BaseShape></m:FolderShape>\
         <m:FolderIds><t:DistinguishedFolderId Id=\"inbox\"/></m:FolderIds></m:GetFolder>",
    )
}

/// A stream that outlasts the run.
pub(crate) fn streaming() -> Vec<u8> {
    soap(
        "<m:GetStreamingEvents><m:SubscriptionIds><t:SubscriptionId>bench</t:SubscriptionId>\
         </m:SubscriptionIds><m:ConnectionTimeout>30</m:ConnectionTimeout></m:GetStreamingEvents>",
    )
}

/// What a mail program sends with every operation.
fn soap(operation: &str) -> Vec<u8> {
    let credentials = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
         <s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\" \
         xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\">\
         <s:Header><t:RequestServerVersion Version=\"Exchange2016\"/></s:Header>\
         <s:Body>{operation}</s:Body></s:Envelope>"
    );
    let length = body.len();
    format!(
        "POST /EWS/Exchange.asmx HTTP/1.1\r\n\
         Host: mail.sandbox.example\r\n\
         Content-Type: text/xml; charset=utf-8\r\n\
         Authorization: Basic {credentials}\r\n\
         User-Agent: MacOutlook/16.89.24090815\r\n\
         Accept: */*\r\n\
         Accept-Encoding: gzip, deflate\r\n\
         X-AnchorMailbox: {USER}\r\n\
         Connection: keep-alive\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// The id of the phone with this number.
pub(crate) fn device_id(number: usize) -> String {
    format!("BENCH{number:027}")
}

/// What a phone sends with every command.
fn post(command: &str, device: usize, body: &[u8]) -> Vec<u8> {
    let credentials = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let device = device_id(device);
    let user = USER.replace('@', "%40");
    let length = body.len();
    let mut request = format!(
        "POST /Microsoft-Server-ActiveSync?Cmd={command}&User={user}&DeviceId={device}&DeviceType=iPhone HTTP/1.1\r\n\
         Host: mail.sandbox.example\r\n\
         Content-Type: application/vnd.ms-sync.wbxml\r\n\
         MS-ASProtocolVersion: 14.1\r\n\
         X-MS-PolicyKey: 1307199584\r\n\
         Authorization: Basic {credentials}\r\n\
         User-Agent: Apple-iPhone15C2/2205.92\r\n\
         Accept: */*\r\n\
         Accept-Language: en-gb\r\n\
         Accept-Encoding: gzip, deflate, br\r\n\
         Connection: keep-alive\r\n\
         Content-Length: {length}\r\n\r\n"
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_sync_has_22_bytes() {
        let bodies = Bodies::new().map_err(|error| error.to_string());
        assert_eq!(bodies.map(|bodies| bodies.sync.len()), Ok(22));
    }

    #[test]
    fn device_ids_are_as_long_as_a_phone_s() {
        assert_eq!(device_id(0).len(), 32);
        assert_eq!(device_id(7_999).len(), 32);
    }
}
