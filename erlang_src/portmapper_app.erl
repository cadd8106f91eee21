%% @doc The application callback.
-module(portmapper_app).
-behaviour(application).

-export([start/2, prep_stop/1, stop/1]).

%% @doc Opens the server before any process is there, so that an error of the
%% configuration or a taken port is told once, readably.
-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Args) ->
    case portmapper_server:open() of
        {ok, _Server} ->
            portmapper_sup:start_link();
        {error, Reason} ->
            portmapper_log:cannot_start(Reason),
            {error, Reason}
    end.

%% @doc A stop that was asked for closes the server. If the supervisor dies
%% this is not called, and whoever restarts the application finds the server
%% as it was.
-spec prep_stop(State) -> State.
prep_stop(State) ->
    ok = portmapper_server:close(),
    State.

-spec stop(term()) -> ok.
stop(_State) ->
    ok.
