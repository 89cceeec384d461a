//! What failure tests share: servers with handlers that leave traces, the platform that sends until it is answered, a
//! PostgreSQL of one's own, and the comparison of what was answered with what is left.
//!
//! | module | what it is |
//! |---|---|
//! | `deliveries` | what is sent, and which reply must come back |
//! | `load` | the platform: connections that repeat each delivery until it is answered |
//! | `slow` | answers that take longer than a response: streams, and late replies |
//! | `serve`, `nodes` | the server under test, as a program of its own |
//! | `effects` | what its handlers have done |
//! | `target` | where the servers forward to |
//! | `postgres` | the database |
//! | `check` | answers, journal and effects compared |
//! | `trial` | all of this, from the start of a load to the verdict |

pub mod check;
pub mod deliveries;
pub mod effects;
pub mod load;
pub mod nodes;
pub mod postgres;
pub mod serve;
pub mod slow;
pub mod target;
pub mod trial;

/// Why a test could not be run.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
