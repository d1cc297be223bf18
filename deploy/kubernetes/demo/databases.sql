-- Each service owns its database; none reads another's tables.
CREATE DATABASE shop_user;
CREATE DATABASE shop_order;
CREATE DATABASE shop_profile;
