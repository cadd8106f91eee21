%% @doc Finds the other nodes, with the options that the application is configured with.
-module(fleet_app).
-behaviour(application).

-export([start/2, stop/1]).

-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Arguments) ->
    {ok, Options} = application:get_env(discovery),
    fleet_sup:start_link(Options).

-spec stop(term()) -> ok.
stop(_State) ->
    ok.
