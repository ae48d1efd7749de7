//! The server: a [`Store`] behind the procedures of [`protocol`](crate::protocol).

use crate::error::StoreError;
use crate::protocol::*;
use crate::store::Store;
use crate::survey::{
    CHECK_BLOCKS, CheckBlocksArgs, DROP_SNAPSHOT, SNAPSHOT, SNAPSHOT_IDLE, SURVEY, SURVEY_OBJECTS,
    SurveyArgs, SurveyObjectsArgs,
};
use crate::types::{ExtentStatus, Key};
use bytes::Bytes;
use rpc::{Request, Response, Server, ServerBuilder, ServerOptions, Status, asynchronous};
use serde::Serialize;
use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock, Weak};
use tokio::sync::Semaphore;

/// Bulk operations at work at once; more of them wait their turn.
const BLOCKING_MAX: usize = 64;
/// Lookups of at most this many keys are answered on the connection's task: nearly always they are in memory, where they
/// take a few microseconds, and handing them to another thread costs more than the lookup.
const INLINE_KEYS_MAX: usize = 16;
/// Scans of at most this many entries likewise.
const INLINE_SCAN_MAX: u32 = 64;

type Answer = Result<Response, Status>;

/// Serves `store` at `listen` until the returned server is shut down or dropped.
pub async fn serve(store: Arc<dyn Store>, listen: &str, options: ServerOptions) -> io::Result<Server> {
    let context = Context {
        store,
        blocking: Arc::new(Semaphore::new(BLOCKING_MAX)),
        address: Arc::new(OnceLock::new()),
    };
    let address = context.address.clone();
    let server = builder(&context, options).listen(listen).await?;
    address.get_or_init(|| server.local_addr().to_string());
    Ok(server)
}

#[derive(Clone)]
struct Context {
    store: Arc<dyn Store>,
    blocking: Arc<Semaphore>,
    address: Arc<OnceLock<String>>,
}

fn builder(context: &Context, options: ServerOptions) -> ServerBuilder {
    let mut server = ServerBuilder::new(options);
    on(&mut server, context, GET, get);
    on(&mut server, context, SCAN, scan);
    on(&mut server, context, READ, read);
    on(&mut server, context, WRITE, write);
    on(&mut server, context, COMMIT, commit);
    on(&mut server, context, FENCE, fence);
    on(&mut server, context, STATFS, |context: Context, _| async move { answer(context.store.statfs()) });
    on(&mut server, context, SNAPSHOT, snapshot);
    on(&mut server, context, DROP_SNAPSHOT, drop_snapshot);
    on(&mut server, context, SURVEY, survey);
    on(&mut server, context, SURVEY_OBJECTS, survey_objects);
    on(&mut server, context, CHECK_BLOCKS, check_blocks);
    on(&mut server, context, STATUS, |context: Context, _| async move { answer(Ok(context.status())) });
    server
}

fn on<F, Fut>(server: &mut ServerBuilder, context: &Context, proc: rpc::Proc, handler: F)
where
    F: Fn(Context, Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Answer> + Send + 'static,
{
    let context = context.clone();
    server.register_async(proc, asynchronous(move |request| handler(context.clone(), request)));
}

impl Context {
    /// Runs `work` where blocking is allowed.
    async fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        if !self.store.may_block() {
            return work(&*self.store);
        }
        let permit = self.blocking.clone().acquire_owned().await.expect("the semaphore is never closed");
        let store = self.store.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&*store)
        });
        done.await.unwrap_or_else(|e| Err(StoreError::Io { what: format!("a task of the server: {e}") }))
    }

    fn status(&self) -> ExtentStatus {
        let address = self.address.get().cloned().unwrap_or_default();
        ExtentStatus { address, ..self.store.status() }
    }
}

async fn get(context: Context, request: Request) -> Answer {
    let keys: Vec<Key> = request.decode::<GetArgs>()?.keys.into_iter().map(|key| key.0).collect();
    let found = if keys.len() <= INLINE_KEYS_MAX {
        context.store.get(&keys, ANSWER_BYTES_MAX)
    } else {
        context.block(move |store| store.get(&keys, ANSWER_BYTES_MAX)).await
    };
    answer_with(found.map(|values| {
        let (values, payload) = pack_values(&values);
        (GetReply { values }, payload)
    }))
}

async fn scan(context: Context, request: Request) -> Answer {
    let ScanArgs { from, to, limit } = request.decode()?;
    let limit = limit.min(SCAN_ENTRIES_MAX);
    let found = if limit <= INLINE_SCAN_MAX {
        context.store.scan(&from.0, &to.0, limit, ANSWER_BYTES_MAX)
    } else {
        context.block(move |store| store.scan(&from.0, &to.0, limit, ANSWER_BYTES_MAX)).await
    };
    answer_with(found.map(|(entries, more)| {
        let (entries, payload) = pack_entries(&entries);
        (ScanReply { entries, more }, payload)
    }))
}

async fn read(context: Context, request: Request) -> Answer {
    let ReadArgs { object, ranges } = request.decode()?;
    let data = context.block(move |store| store.read(object, &ranges)).await;
    answer_with(data.map(|data| ((), data)))
}

async fn write(context: Context, request: Request) -> Answer {
    let WriteArgs { session, object, ranges } = request.decode()?;
    let data = request.payload;
    let written = context.block(move |store| store.write(session, object, &ranges, &data)).await;
    answer(written.map(|boot| WriteReply { boot }))
}

async fn commit(context: Context, request: Request) -> Answer {
    let CommitArgs { session, ops, objects } = request.decode()?;
    match unpack_ops(&ops, request.payload) {
        Ok(ops) => answer(context.store.commit(session, ops, objects).await),
        Err(e) => answer::<()>(Err(e)),
    }
}

async fn fence(context: Context, request: Request) -> Answer {
    let Fence { session } = request.decode()?;
    match context.store.fence(session).await {
        Ok(()) => Ok(Response::of(&())),
        Err(e) => {
            tracing::error!("session {session} could not be fenced: {e}");
            Err(Status(e.code()))
        }
    }
}

async fn snapshot(context: Context, _: Request) -> Answer {
    let taken = context.block(|store| store.snapshot()).await;
    if taken.is_ok() {
        tokio::spawn(let_go(Arc::downgrade(&context.store)));
    }
    answer(taken)
}

async fn drop_snapshot(context: Context, request: Request) -> Answer {
    context.store.drop_snapshot(request.decode()?);
    answer(Ok(()))
}

/// Gives up snapshots that are not used any more, until there are none; they keep old data on the disk.
async fn let_go(store: Weak<dyn Store>) {
    loop {
        tokio::time::sleep(SNAPSHOT_IDLE).await;
        if store.upgrade().is_none_or(|store| store.drop_idle_snapshots() == 0) {
            return;
        }
    }
}

async fn survey(context: Context, request: Request) -> Answer {
    let SurveyArgs { snapshot, from } = request.decode()?;
    let page = context.block(move |store| store.survey(snapshot, &from.0)).await;
    answer_with(page.map(|page| page.pack()))
}

async fn survey_objects(context: Context, request: Request) -> Answer {
    let SurveyObjectsArgs { snapshot, from } = request.decode()?;
    answer(context.block(move |store| store.survey_objects(snapshot, from)).await)
}

async fn check_blocks(context: Context, request: Request) -> Answer {
    let CheckBlocksArgs { object, from } = request.decode()?;
    answer(context.block(move |store| store.check_blocks(object, from)).await)
}

fn answer<T: Serialize>(result: Reply<T>) -> Answer {
    Ok(Response::of(&result))
}

fn answer_with<T: Serialize>(result: Reply<(T, Bytes)>) -> Answer {
    match result {
        Ok((value, payload)) => Ok(Response::of(&Reply::Ok(value)).with_payload(payload)),
        Err(e) => answer::<T>(Err(e)),
    }
}
