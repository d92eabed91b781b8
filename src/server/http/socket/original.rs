//! The sockets of 2012: a key for its value, `key<TAB>value`, a file to load, a file to save to. The last three answer
//! nothing.

use axum::body::Bytes;
use memchr::memchr_iter;

use super::frame::Kind;
use super::out::Out;
use super::{Handler, Next, wait};
use crate::engine::Ttl;
use crate::server::http::problem::Problem;
use crate::server::http::{App, LARGE};

/// `/getws/`
pub(super) struct Get(pub(super) App, pub(super) u8);

impl Handler for Get {
    fn message(&mut self, kind: Kind, key: &[u8], out: &mut Out) -> Next {
        let value = match self.0.look_up(self.1, key) {
            Ok(Some(found)) => found.value.into_bytes(),
            Ok(None) => Bytes::new(),
            Err(problem) => {
                note(Err(problem));
                Bytes::new()
            }
        };
        // As the question came, unless text cannot hold it.
        let kind = match kind {
            Kind::Text => Kind::of(&value),
            Kind::Binary => kind,
        };
        out.message_of(kind, &[], value);
        Next::Go
    }
}

/// `/putws/`
pub(super) struct Put(pub(super) App, pub(super) u8);

impl Handler for Put {
    fn message(&mut self, _: Kind, payload: &[u8], _: &mut Out) -> Next {
        let mut tabs = memchr_iter(b'\t', payload);
        let (Some(tab), None) = (tabs.next(), tabs.next()) else {
            return Next::Go;
        };
        let (app, db) = (self.0.clone(), self.1);
        if payload.len() <= LARGE {
            let put = app.set(db, &payload[..tab], &payload[tab + 1..], Ttl::Default);
            note(put.map(drop));
            return Next::Go;
        }
        let payload = payload.to_vec();
        wait(async move {
            let worker = app.clone();
            let work = move || worker.set(db, &payload[..tab], &payload[tab + 1..], Ttl::Default);
            note(app.offload.run(work).await.map(drop));
            nothing
        })
    }
}

/// `/loadws/`
pub(super) struct Load(pub(super) App, pub(super) u8);

impl Handler for Load {
    fn message(&mut self, _: Kind, name: &[u8], _: &mut Out) -> Next {
        let (app, db, name) = (self.0.clone(), self.1, name.to_vec());
        wait(async move {
            note(app.load_quietly(name, db).await);
            nothing
        })
    }
}

/// `/savews/`
pub(super) struct Save(pub(super) App);

impl Handler for Save {
    fn message(&mut self, _: Kind, name: &[u8], _: &mut Out) -> Next {
        let (app, name) = (self.0.clone(), name.to_vec());
        wait(async move {
            note(app.save_to(name).await.map(drop));
            nothing
        })
    }
}

fn nothing(_: &mut Out) {}

/// Tells the log what nobody else is told.
fn note(outcome: std::result::Result<(), Problem>) {
    if let Err(problem) = outcome {
        // It may name a file, which a client has named.
        let detail = problem.detail.escape_debug();
        tracing::info!(code = problem.code, "refused: {detail}");
    }
}
