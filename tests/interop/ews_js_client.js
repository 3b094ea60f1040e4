// A real EWS client (ews-javascript-api) that lists the inbox, and says how it went.
//
//     ews_js_client.js URL USER PASSWORD
//
// The authority to trust comes by NODE_EXTRA_CA_CERTS. Prints one line of JSON:
// {"ok": true, "folder": ..., "subjects": [...]} or {"ok": false, "error": ..., "message": ...}.
"use strict";
const ews = require("ews-javascript-api");

async function list(url, user, password) {
  const service = new ews.ExchangeService(ews.ExchangeVersion.Exchange2013_SP1);
  service.Url = new ews.Uri(url);
  service.Credentials = new ews.WebCredentials(user, password);
  const inbox = await ews.Folder.Bind(service, new ews.FolderId(ews.WellKnownFolderName.Inbox));
  const found = await service.FindItems(inbox.Id, new ews.ItemView(50));
  return { folder: inbox.DisplayName, subjects: found.Items.map((item) => item.Subject) };
}

const [url, user, password] = process.argv.slice(2);
list(url, user, password)
  .then((listed) => console.log(JSON.stringify({ ok: true, ...listed })))
  .catch((error) => {
    console.log(JSON.stringify({
      ok: false,
      error: error.ErrorCode === undefined ? String(error.name) : ews.ServiceError[error.ErrorCode],
      message: String(error.message || error.Message || error).slice(0, 500),
    }));
    process.exitCode = 1;
  });
