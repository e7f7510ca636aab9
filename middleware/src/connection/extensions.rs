//! A typed map of a connection, for values without a field of their own.

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    fmt,
};

/// The values of a connection, at most one per type.
///
/// An empty map takes one word and no allocation. Layers add values through `&mut`; each HTTP request
/// receives a clone.
#[derive(Default)]
#[expect(
    clippy::box_collection,
    reason = "one word in each connection instead of six"
)]
pub struct Extensions(Option<Box<HashMap<TypeId, ExtensionEntry>>>);

struct ExtensionEntry {
    type_name: &'static str,
    value: Box<dyn Value>,
}

impl Extensions {
    /// An empty map.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Inserts `value` and returns the previous one of the same type.
    pub fn insert<T: Clone + Send + Sync + 'static>(&mut self, value: T) -> Option<T> {
        let entry = ExtensionEntry {
            type_name: type_name::<T>(),
            value: Box::new(value),
        };
        let old = self
            .0
            .get_or_insert_default()
            .insert(TypeId::of::<T>(), entry)?;
        old.value.into_any().downcast().ok().map(|value| *value)
    }

    /// The value of type `T`.
    pub fn get<T: 'static>(&self) -> Option<&T> {
        let entry = self.0.as_ref()?.get(&TypeId::of::<T>())?;
        entry.value.as_any().downcast_ref()
    }

    /// The value of type `T`, mutably.
    pub fn get_mut<T: 'static>(&mut self) -> Option<&mut T> {
        let entry = self.0.as_mut()?.get_mut(&TypeId::of::<T>())?;
        entry.value.as_any_mut().downcast_mut()
    }

    /// Removes the value of type `T`.
    pub fn remove<T: 'static>(&mut self) -> Option<T> {
        let entry = self.0.as_mut()?.remove(&TypeId::of::<T>())?;
        entry.value.into_any().downcast().ok().map(|value| *value)
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |map| map.len())
    }

    /// Whether the map is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Clone for Extensions {
    fn clone(&self) -> Self {
        let Some(map) = &self.0 else {
            return Self(None);
        };
        let copy = |(id, entry): (&TypeId, &ExtensionEntry)| {
            let value = entry.value.clone_value();
            (*id, ExtensionEntry { value, ..*entry })
        };
        Self(Some(Box::new(map.iter().map(copy).collect())))
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self
            .0
            .iter()
            .flat_map(|map| map.values().map(|e| e.type_name));
        f.debug_set().entries(names).finish()
    }
}

trait Value: Any + Send + Sync {
    fn clone_value(&self) -> Box<dyn Value>;
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<T: Clone + Send + Sync + 'static> Value for T {
    fn clone_value(&self) -> Box<dyn Value> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_one_value_of_each_type() {
        let mut map = Extensions::new();
        assert_eq!(map.insert(1_u8), None);
        assert_eq!(map.insert("one"), None);
        assert_eq!(map.insert(2_u8), Some(1));
        assert_eq!(
            (map.get::<u8>(), map.get::<&str>()),
            (Some(&2), Some(&"one"))
        );
        assert_eq!(
            (map.remove::<u8>(), map.get::<u8>(), map.len()),
            (Some(2), None, 1)
        );
    }

    #[test]
    fn a_clone_is_independent() {
        let mut map = Extensions::new();
        map.insert(1_u8);
        let copy = map.clone();
        *map.get_mut::<u8>().unwrap() = 7;
        assert_eq!((map.get::<u8>(), copy.get::<u8>()), (Some(&7), Some(&1)));
    }

    #[test]
    fn an_empty_map_costs_one_word() {
        assert_eq!(size_of::<Extensions>(), size_of::<usize>());
    }
}
