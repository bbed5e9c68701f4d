//! Things that instances hold.
