//! A typed map of a connection, for values without a field of their own.

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    fmt,
    sync::Arc,
};

/// The values of a connection, at most one per type.
///
/// An empty map costs one word and no allocation. Each HTTP request receives a clone, which shares the values. Changing a
/// map that is shared copies it first, so that the others keep their values.
#[derive(Clone, Default)]
pub struct Extensions(Option<Arc<HashMap<TypeId, ExtensionEntry>>>);

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
        let map = Arc::make_mut(self.0.get_or_insert_default());
        let old = map.insert(TypeId::of::<T>(), entry)?;
        old.value.into_any().downcast().ok().map(|value| *value)
    }

    /// The value of type `T`.
    pub fn get<T: 'static>(&self) -> Option<&T> {
        let entry = self.0.as_ref()?.get(&TypeId::of::<T>())?;
        entry.value.as_any().downcast_ref()
    }

    /// The value of type `T`, mutably.
    pub fn get_mut<T: 'static>(&mut self) -> Option<&mut T> {
        self.get::<T>()?;
        let entry = Arc::make_mut(self.0.as_mut()?).get_mut(&TypeId::of::<T>())?;
        entry.value.as_any_mut().downcast_mut()
    }

    /// Removes the value of type `T`.
    pub fn remove<T: 'static>(&mut self) -> Option<T> {
        self.get::<T>()?;
        let entry = Arc::make_mut(self.0.as_mut()?).remove(&TypeId::of::<T>())?;
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

impl Clone for ExtensionEntry {
    fn clone(&self) -> Self {
        let value = self.value.clone_value();
        Self { value, ..*self }
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
    fn clones_share_their_values_until_one_is_changed() {
        struct Counted(Arc<()>);
        impl Clone for Counted {
            fn clone(&self) -> Self {
                Self(self.0.clone())
            }
        }
        let count = Arc::new(());
        let mut map = Extensions::new();
        map.insert(Counted(count.clone()));
        map.insert(1_u8);
        let mut copies: Vec<_> = (0..10).map(|_| map.clone()).collect();
        // What is not there changes nothing.
        assert_eq!((map.remove::<u16>(), map.get_mut::<u16>()), (None, None));
        assert_eq!(Arc::strong_count(&count), 2);
        assert_eq!(copies[0].remove::<u8>(), Some(1));
        assert_eq!(Arc::strong_count(&count), 3);
        assert_eq!((map.len(), copies[0].len(), copies[1].len()), (2, 1, 2));
        drop((map, copies));
        assert_eq!(Arc::strong_count(&count), 1);
    }

    #[test]
    fn an_empty_map_costs_one_word() {
        assert_eq!(size_of::<Extensions>(), size_of::<usize>());
    }
}
