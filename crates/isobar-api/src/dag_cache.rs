//! Serialized Dags that were read lately. A version never changes in what is read here, so its id and hash are the key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use isobar_model::dag::SerializedDag;
use isobar_store::lists::versions::VersionContent;
use uuid::Uuid;

/// As many versions are kept as a page of Dags shows.
const MOST: usize = 128;

#[derive(Default)]
pub(crate) struct DagCache {
    kept: Mutex<HashMap<Uuid, (String, Arc<SerializedDag>)>>,
}

impl DagCache {
    /// The Dag of a version's content; none where what is stored cannot be read.
    pub(crate) fn read(&self, content: &VersionContent) -> Option<Arc<SerializedDag>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((hash, dag)) = kept.get(&content.id)
            && *hash == content.hash
        {
            return Some(Arc::clone(dag));
        }
        let dag = serde_json::from_str(&content.data)
            .map_err(|error| error.to_string())
            .and_then(|json| SerializedDag::read(json).map_err(|error| error.to_string()))
            .inspect_err(|error| tracing::error!(version = %content.id, %error, "a stored Dag cannot be read"))
            .ok()?;
        if kept.len() >= MOST {
            kept.clear();
        }
        kept.insert(content.id, (content.hash.clone(), Arc::clone(&dag)));
        Some(dag)
    }
}
