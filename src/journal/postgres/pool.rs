//! Connections to the database, and the pool of them.

use std::{
    collections::HashMap,
    ops::{Deref, DerefMut},
    pin::Pin,
    time::Duration,
};

use deadpool::{
    Runtime,
    managed::{self, Metrics, Object, PoolError, QueueMode, RecycleError, RecycleResult},
};
use tokio::time;
use tokio_postgres::{
    Client, Config, NoTls, Socket, Statement,
    config::{Host, SslMode},
    error::SqlState,
    tls::MakeTlsConnect,
    types::ToSql,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    super::JournalError,
    db::{self, Failure, WORK_TIMEOUT},
    tls::{Tls, Way},
};

/// How long it may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Connections of one node, beside that of the heartbeat.
const CONNECTIONS: usize = 8;

/// The settings of every session. A commit is durable when it returns, and a statement sees what is committed when it
/// begins, whatever the server's settings are.
///
/// Statements are planned while the tables are empty, and the plans are kept: one that reads a whole table costs nothing
/// then, and more with every event. What is read here is small and has an index.
const SESSION: &str = "
    SET enable_seqscan = off;
    SET jit = off;
    SET statement_timeout = '5s';
    SET lock_timeout = '3s';
    SET idle_in_transaction_session_timeout = '10s';
    SET default_transaction_isolation = 'read committed';
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

/// A connection, ended when it is dropped.
pub(super) struct Connection {
    pub(super) client: Client,
    statements: HashMap<&'static str, Statement>,
    /// Nothing is under way on it.
    is_idle: bool,
    driver: AbortOnDropHandle<()>,
}

impl Connection {
    /// A statement, prepared once.
    pub(super) async fn prepare(&mut self, text: &'static str) -> Result<Statement, Failure> {
        if let Some(statement) = self.statements.get(text) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(&db::sql(text)).await?;
        self.statements.insert(text, statement.clone());
        Ok(statement)
    }

    pub(super) async fn query(
        &mut self,
        text: &'static str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>, Failure> {
        let statement = self.prepare(text).await?;
        Ok(self.client.query(&statement, values).await?)
    }

    /// The one row of a query without values.
    pub(super) async fn row(&mut self, text: &'static str) -> Result<tokio_postgres::Row, Failure> {
        let statement = self.prepare(text).await?;
        Ok(self.client.query_one(&statement, &[]).await?)
    }

    pub(super) async fn execute(&mut self, text: &'static str, values: &[&(dyn ToSql + Sync)]) -> Result<u64, Failure> {
        let statement = self.prepare(text).await?;
        Ok(self.client.execute(&statement, values).await?)
    }
}

/// Makes connections.
struct Connector {
    config: Config,
    tls: Tls,
}

impl Connector {
    fn new(url: &str) -> Result<Self, JournalError> {
        let (mut tls, url) = Tls::split(url)?;
        // The error of the library quotes what it could not read.
        let mut config: Config = url.parse().map_err(|_| {
            JournalError::storage(
                "cannot parse the PostgreSQL URL; expected postgres://USER:PASSWORD@HOST:5432/DATABASE",
            )
        })?;
        if config.get_hosts().is_empty() {
            // Certificates are for hosts, and an address is a name, too.
            let names: Vec<String> = config.get_hostaddrs().iter().map(ToString::to_string).collect();
            names.iter().for_each(|name| _ = config.host(name));
        }
        if config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_))) {
            tls.disable();
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            config.application_name("echostr");
        }
        config.tcp_user_timeout(WORK_TIMEOUT).keepalives_idle(Duration::from_secs(10));
        Ok(Self { config, tls })
    }

    /// In a box: it is large, and rarely used.
    fn connect(&self) -> Pin<Box<dyn Future<Output = Result<Connection, Failure>> + Send + '_>> {
        Box::pin(async { time::timeout(WORK_TIMEOUT, self.try_ways()).await.unwrap_or(Err(Failure::Slow)) })
    }

    async fn try_ways(&self) -> Result<Connection, Failure> {
        let mut refused = Vec::new();
        for way in self.tls.ways() {
            let failure = match self.open(*way).await {
                Ok(connection) => return Ok(connection),
                Err(Failure::Database(failure)) => failure,
                Err(failure) => return Err(failure),
            };
            let about_tls = self.tls.explain(&failure);
            if about_tls.is_some() {
                self.tls.reload();
            }
            let is_refused =
                about_tls.is_some() || failure.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION);
            refused.push(about_tls.unwrap_or_else(|| db::explain(&failure)));
            if !is_refused {
                break;
            }
        }
        Err(Failure::Connect(refused.join("; ")))
    }

    async fn open(&self, way: Way) -> Result<Connection, Failure> {
        match way {
            Way::Plain => self.open_with(SslMode::Disable, NoTls).await,
            Way::Offered => self.open_with(SslMode::Prefer, self.encrypted()?).await,
            Way::Tls => self.open_with(SslMode::Require, self.encrypted()?).await,
        }
    }

    fn encrypted(&self) -> Result<tokio_postgres_rustls::MakeRustlsConnect, Failure> {
        self.tls.connector().map_err(Failure::Connect)
    }

    async fn open_with<T>(&self, mode: SslMode, tls: T) -> Result<Connection, Failure>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
    {
        let (client, driver) = self.config.clone().ssl_mode(mode).connect(tls).await?;
        let driver = AbortOnDropHandle::new(tokio::spawn(async move {
            // The user of the client gets the error.
            let _ = driver.await;
        }));
        client.batch_execute(SESSION).await?;
        Ok(Connection { client, statements: HashMap::new(), is_idle: true, driver })
    }
}

impl managed::Manager for Connector {
    type Type = Connection;
    type Error = Failure;

    async fn create(&self) -> Result<Connection, Failure> {
        self.connect().await
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<Failure> {
        if connection.is_idle && !connection.client.is_closed() {
            return Ok(());
        }
        Err(RecycleError::message("closed"))
    }
}

/// The connections of one node.
pub(super) struct Pool(managed::Pool<Connector>);

impl Pool {
    /// Parses the URL, and reads the files that it names; connects on first use.
    pub(super) fn new(url: &str) -> Result<Self, JournalError> {
        let pool = managed::Pool::builder(Connector::new(url)?)
            .max_size(CONNECTIONS)
            .queue_mode(QueueMode::Lifo)
            .wait_timeout(Some(WORK_TIMEOUT))
            .runtime(Runtime::Tokio1);
        Ok(Self(pool.build().map_err(JournalError::storage)?))
    }

    /// A connection beside the pool.
    pub(super) async fn connect(&self) -> Result<Connection, Failure> {
        self.0.manager().connect().await
    }

    /// A connection for one operation. One that is not [returned](Lent::done) is not used again.
    pub(super) async fn get(&self) -> Result<Lent, Failure> {
        match self.0.get().await {
            Ok(mut connection) => {
                connection.is_idle = false;
                Ok(Lent(connection))
            }
            Err(PoolError::Backend(failure)) => Err(failure),
            Err(_) => Err(Failure::Slow),
        }
    }

    /// Closes every idle connection.
    pub(super) fn clear(&self) {
        self.0.retain(|_, _| false);
    }
}

/// A connection in use.
pub(super) struct Lent(Object<Connector>);

impl Lent {
    /// The operation succeeded; the connection can be reused.
    pub(super) fn done(mut self) {
        self.0.is_idle = true;
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.0.is_idle {
            // Whatever is under way on it, and what that has locked, ends here.
            self.0.driver.abort();
        }
    }
}

impl Deref for Lent {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}
